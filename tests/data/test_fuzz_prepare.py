"""Damaged images and zips: kept or listed, in no time, without a trace."""

import collections
import io
import random
import tempfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image, features

from msggan_jax import data
from msggan_jax.data import set_writer
from msggan_jax.data.sources.source import dataset_of
from tests import fuzzing

TOKENS = [b"IHDR", b"IDAT", b"IEND", b"acTL", b"Exif\0\0", b"\xff\xda", b"RIFF"]
TOKENS += [b"ftyp", b"jP  ", b"II*\0", b"GIF89a", b"\xff\xd8\xff", b"../", b"/"]
TOKENS += [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"..\\x.png"]
SECS = 60  # for one input, on a busy machine; most take a millisecond


def image_seeds():
  """Return small images of every format in every way we can write it."""
  noise = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
  smooth = Image.fromarray(noise).resize((24, 20)).convert("RGB")
  exif = Image.Exif()
  exif[0x0112] = 6

  def frames():  # new ones each time: writers leave settings in them
    return {"save_all": True, "append_images": [smooth.rotate(90)]}

  gray16 = Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
  wanted = [
    ("BMP", smooth, {}),
    ("BMP", smooth.quantize(8), {}),
    ("GIF", smooth, {}),
    ("GIF", smooth, frames()),
    ("GIF", smooth.quantize(8), {"transparency": 1, "interlace": 1}),
    ("JPEG", smooth, {"exif": exif}),
    ("JPEG", smooth, {"progressive": True, "icc_profile": b"x" * 200}),
    ("JPEG", smooth.convert("CMYK"), {}),
    ("JPEG", smooth.convert("L"), {}),
    ("JPEG2000", smooth, {}),
    ("JPEG2000", smooth, {"irreversible": True, "tile_size": (16, 16)}),
    ("MPO", smooth, frames()),
    ("PNG", Image.fromarray(noise), {"exif": exif}),
    ("PNG", smooth, frames()),
    ("PNG", smooth.quantize(8), {"transparency": 1}),
    ("PNG", smooth.convert("1"), {}),
    ("PNG", smooth.convert("LA"), {}),
    ("PNG", gray16, {}),
    ("PPM", smooth, {}),
    ("PPM", smooth.convert("1"), {}),
    ("PPM", gray16, {}),
    ("TGA", Image.fromarray(noise), {"compression": "tga_rle"}),
    ("TGA", smooth.quantize(8), {}),
    *(
      ("TIFF", smooth, {"compression": compression})
      for compression in ("raw", "jpeg", "packbits", "tiff_lzw")
    ),
    ("TIFF", smooth.convert("1"), {"compression": "group4"}),
    ("TIFF", smooth.convert("CMYK"), {"compression": "tiff_adobe_deflate"}),
    ("TIFF", gray16, frames()),
    ("TIFF", smooth, {"tiffinfo": {274: 6}, "big_tiff": True}),
    ("WEBP", smooth, {"exif": exif}),
    ("WEBP", Image.fromarray(noise), {"lossless": True}),
    ("WEBP", smooth, frames()),
  ]
  if features.check("avif"):
    wanted += [("AVIF", smooth, frames()), ("AVIF", Image.fromarray(noise), {})]
  seeds = [b"P3 16 16 255\n" + b"7 8 9 " * 256]
  for kind, image, options in wanted:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)
    seeds.append(file.getvalue())
  return seeds


def zip_seeds():
  images = image_seeds()
  seeds = []
  for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
      archive.writestr("a/1.png", images[-1])
      archive.writestr("a/2.jpg", images[6])
      archive.writestr("\xe4\u0416.gif", images[3])
    seeds.append(file.getvalue())
  return seeds


@pytest.fixture
def watched(tmp_path, monkeypatch):
  """Prepare in folders of our own; note each image's CPU time."""
  for name in ("here", "temporary", "source", "output"):
    (tmp_path / name).mkdir()
  monkeypatch.chdir(tmp_path / "here")
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
  slowest = [0.0]
  make_picture = set_writer._make_picture

  def timed(*args):
    began = time.thread_time()
    square = make_picture(*args)
    slowest[0] = max(slowest[0], time.thread_time() - began)
    return square

  monkeypatch.setattr(set_writer, "_make_picture", timed)
  yield slowest
  assert slowest[0] < SECS
  assert not list((tmp_path / "here").iterdir())
  (lock,) = (tmp_path / "temporary").iterdir()
  assert lock.suffix == ".lock"


def prepare(source, tmp_path):
  """Prepare; return the number of images kept and rejected."""
  output = tmp_path / "output" / "set"
  dataset = dataset_of(str(source), "train", "center")
  with fuzzing.writing_only_to(tmp_path / "output", tmp_path / "temporary"):
    try:
      data.prepare(dataset, 16, 3, output=output)
    except ValueError as error:
      assert len(str(error).splitlines()) == 1
      assert not list(output.parent.iterdir())
      return 0, 0
  images = data.open_prepared(output)
  kept = sum(image["image"].shape == (16, 16, 3) for image in images)
  counts = kept, images.metadata.num_rejected
  assert kept == images.metadata.num_images
  for file in output.iterdir():
    file.unlink()
  output.rmdir()
  return counts


@pytest.mark.parametrize(
  ("batches", "seed"),
  [(1, 0), pytest.param(100, 1, marks=pytest.mark.slow)],
)
def test_damaged_images(tmp_path, watched, batches, seed):
  seeds = image_seeds()
  source = tmp_path / "source"
  for i, content in enumerate(seeds):  # which are all good
    (source / f"{i}.png").write_bytes(content)
  assert prepare(source, tmp_path) == (len(seeds), 0)
  rng = random.Random(seed)
  per_batch = 300 if batches > 1 else 150
  outcomes = collections.Counter()
  with fuzzing.limits(mebibytes=3000) as begin:
    for _ in range(batches):
      for i in range(per_batch):
        content = fuzzing.mutate(rng, seeds, TOKENS)
        (source / f"{i}.png").write_bytes(content)
      for i in range(per_batch, len(seeds)):
        (source / f"{i}.png").unlink(missing_ok=True)
      begin(10 * SECS)
      kept, rejected = prepare(source, tmp_path)
      assert kept + rejected == per_batch
      outcomes.update(kept=kept, rejected=rejected)
  assert min(outcomes.values()) > per_batch // 10


@pytest.mark.parametrize(
  ("inputs", "seed"),
  [(25, 0), pytest.param(2500, 1, marks=pytest.mark.slow)],
)
def test_damaged_zips(tmp_path, watched, inputs, seed):
  seeds = zip_seeds()
  path = tmp_path / "source" / "photos.zip"
  for content in seeds:
    path.write_bytes(content)
    assert prepare(path, tmp_path) == (3, 0)
  rng = random.Random(seed)
  outcomes = collections.Counter()
  with fuzzing.limits(mebibytes=1000) as begin:
    for _ in range(inputs):
      path.write_bytes(fuzzing.mutate(rng, seeds, TOKENS))
      begin(SECS)
      kept, _ = prepare(path, tmp_path)
      outcomes["prepared" if kept else "refused"] += 1
  assert min(outcomes.values()) > inputs // 10


def test_a_zip_with_an_empty_name(tmp_path, watched):
  """Found by coverage: such a member is not an image."""
  path = tmp_path / "source" / "photos.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("1.png", image_seeds()[-1])
    archive.writestr("x", b"")
  content = path.read_bytes()
  at = content.rindex(b"PK\x01\x02")  # the entry of x, without its name
  entry = bytearray(content[at:])
  assert entry[28] == 1 and entry[46:47] == b"x"
  entry[28] = 0
  end = entry.index(b"PK\x05\x06")
  entry[end + 12] -= 1  # bytes of the directory
  del entry[46]
  path.write_bytes(content[:at] + entry)
  assert zipfile.ZipFile(path).namelist() == ["1.png", ""]
  assert prepare(path, tmp_path) == (1, 0)
