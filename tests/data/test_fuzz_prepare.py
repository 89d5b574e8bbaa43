"""Damaged images and zips: kept or listed, without a trace."""

import io
import random
import shutil
import tempfile
import zipfile

import numpy as np
import pytest
from PIL import Image, features

from msggan_jax import data
from msggan_jax.data.sources import config_of
from tests import fuzzing

TOKENS = [b"IHDR", b"IDAT", b"IEND", b"acTL", b"Exif\0\0", b"\xff\xda", b"RIFF"]
TOKENS += [b"ftyp", b"jP  ", b"II*\0", b"GIF89a", b"\xff\xd8\xff", b"../", b"/"]
TOKENS += [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"..\\x.png"]


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
    ("BMP", smooth.quantize(8), {}),
    ("GIF", smooth, frames()),
    ("GIF", smooth.quantize(8), {"transparency": 1, "interlace": 1}),
    ("JPEG", smooth, {"exif": exif}),
    ("JPEG", smooth, {"progressive": True, "icc_profile": b"x" * 200}),
    ("JPEG", smooth.convert("CMYK"), {}),
    ("JPEG2000", smooth, {"irreversible": True, "tile_size": (16, 16)}),
    ("MPO", smooth, frames()),
    ("PNG", Image.fromarray(noise), {"exif": exif}),
    ("PNG", smooth, frames()),
    ("PNG", smooth.quantize(8), {"transparency": 1}),
    ("PNG", smooth.convert("LA"), {}),
    ("PNG", gray16, {}),
    ("PPM", smooth.convert("1"), {}),
    ("TGA", Image.fromarray(noise), {"compression": "tga_rle"}),
    *(
      ("TIFF", smooth, {"compression": compression})
      for compression in ("raw", "jpeg", "packbits", "tiff_lzw")
    ),
    ("TIFF", smooth.convert("1"), {"compression": "group4"}),
    ("TIFF", gray16, frames()),
    ("TIFF", smooth, {"tiffinfo": {274: 6}, "big_tiff": True}),
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


@pytest.fixture
def prepare(tmp_path, monkeypatch):
  """Prepare in folders of our own; return the numbers kept and rejected."""
  for name in ("here", "temporary", "source", "output"):
    (tmp_path / name).mkdir()
  monkeypatch.chdir(tmp_path / "here")
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
  output = tmp_path / "output" / "set"

  def run(source):
    config = config_of(str(source), 16)
    with fuzzing.writing_only_to(output.parent, tmp_path / "temporary"):
      try:
        data.prepare(config, output=output)
      except ValueError as error:
        assert len(str(error).splitlines()) == 1
        assert not list(output.parent.iterdir())
        return 0, 0
    images = data.open_prepared(output)
    kept = sum(image["image"].shape == (16, 16, 3) for image in images)
    shutil.rmtree(output)
    return kept, images.metadata.num_rejected

  yield run
  assert not list((tmp_path / "here").iterdir())
  assert not list((tmp_path / "temporary").iterdir())


def test_damaged_images(tmp_path, prepare):
  rng, seeds = random.Random(0), image_seeds()
  source = tmp_path / "source"
  for i, content in enumerate(seeds):
    (source / f"{i}.png").write_bytes(content)
  assert prepare(source) == (len(seeds), 0)
  with fuzzing.limits(mebibytes=3000) as begin:
    for i in range(150):
      content = fuzzing.mutate(rng, seeds, TOKENS)
      (source / f"{i}.png").write_bytes(content)
    begin(600)
    counts = prepare(source)
  assert sum(counts) == 150 and min(counts) > 15


def test_damaged_zips(tmp_path, prepare):
  rng, images, seeds = random.Random(0), image_seeds(), []
  path = tmp_path / "source" / "photos.zip"
  for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
    with zipfile.ZipFile(path, "w", method) as archive:
      for name, image in (("a/1.png", -1), ("a/2.jpg", 6), ("\u0416.gif", 3)):
        archive.writestr(name, images[image])
    assert prepare(path) == (3, 0)
    seeds.append(path.read_bytes())
  counts = []
  with fuzzing.limits(mebibytes=1000) as begin:
    for _ in range(25):
      path.write_bytes(fuzzing.mutate(rng, seeds, TOKENS))
      begin(60)
      counts.append(prepare(path)[0] > 0)
  assert 2 < sum(counts) < 23
