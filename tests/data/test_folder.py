"""Folders and zip files of images of every kind."""

import json
import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from msggan_jax import data
from msggan_jax.data import pixels, set_writer
from msggan_jax.data.sources import dataset_of, folder

RED, GREEN, BLUE = (220, 30, 40), (20, 160, 60), (30, 40, 200)


@pytest.fixture
def dataset(tmp_path):
  """Configuration of an empty folder and a place for prepared sets."""
  source = tmp_path / "photos"
  source.mkdir()
  made = dataset_of(str(source), "train", "center")
  return ConfigDict({**made, "data_dir": str(tmp_path / "data")})


def halves(left, right, size=(48, 32), mode="RGB"):
  """An image of two colors side by side."""
  image = Image.new(mode, size, right)
  image.paste(left, (0, 0, size[0] // 2, size[1]))
  return image


def save(dataset, name, image, **options):
  path = os.path.join(dataset.path, name)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  image.save(path, **options)


def prepare(dataset, resolution=16, channels=3, **options):
  path = data.prepare(dataset, resolution, channels, **options)
  return data.open_prepared(path)


def rejected(images):
  lines = (images.path / "rejected.jsonl").read_text().splitlines()
  return {item["name"]: item["reason"] for item in map(json.loads, lines)}


def assert_halves(image, left, right, atol=6):
  size = image.shape[0]
  for color, column in ((left, size // 4), (right, 3 * size // 4)):
    np.testing.assert_allclose(
      image[size // 2, column].astype(int), color, atol=atol
    )


def test_every_format_shows_the_same_picture(dataset):
  picture = halves(RED, BLUE)
  frames = [Image.new("RGB", (48, 32), GREEN)]
  turned, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
  exif[0x0112] = 6  # shown after 90 degrees clockwise
  for name, image, options in (
    ("palette.png", picture.quantize(8), {}),
    ("cmyk.jpg", picture.convert("CMYK"), {"quality": 95}),
    ("WEBP.WEBP", picture, {"lossless": True}),
    ("turned.jpeg", turned, {"exif": exif, "quality": 95, "subsampling": 0}),
    ("moving.gif", picture, {"save_all": True, "append_images": frames}),
    ("large.jpg", halves(RED, BLUE, (960, 640)), {"quality": 95}),
    ("lzw.tif", picture, {"compression": "tiff_lzw"}),
  ):
    save(dataset, name, image, **options)
  images = prepare(dataset)
  assert len(images) == 7 and images.metadata.num_rejected == 0
  for image in images:
    assert image["label"] == 0
    assert_halves(image["image"], RED, BLUE)


def test_transparency_is_composited_over_white(dataset):
  rgba = halves((*RED, 255), (0, 0, 0, 0), mode="RGBA")
  save(dataset, "1.png", rgba)
  save(dataset, "2.png", rgba.quantize(8))  # a palette with transparency
  save(dataset, "3.png", halves((90, 255), (0, 0), mode="LA"))
  save(dataset, "4.png", halves(RED, (1, 2, 3)), transparency=(1, 2, 3))
  white = (255, 255, 255)
  images = [image["image"] for image in prepare(dataset)]
  for image, color in zip(images, (RED, RED, (90,) * 3, RED), strict=True):
    assert_halves(image, color, white)
  with_alpha = [image["image"] for image in prepare(dataset, channels=4)]
  assert_halves(with_alpha[0], (*RED, 255), (*with_alpha[0][8, 12, :3], 0))
  gray = prepare(dataset, channels=1)[2]["image"]
  assert gray.shape == (16, 16, 1)
  assert_halves(gray, (90,), (255,))


def test_sixteen_bits_keep_their_range(dataset):
  ramp = np.linspace(0, 65535, 32).astype(np.uint16)
  save(dataset, "1.png", Image.fromarray(np.tile(ramp, (32, 1))))
  (image,) = prepare(dataset, resolution=32)
  np.testing.assert_allclose(
    image["image"][5], np.tile(ramp[:, None] / 257, 3), atol=0.5
  )


def test_large_reductions_do_not_alias():
  # One-pixel stripes: plain subsampling would give black or white.
  stripes = np.zeros((512, 512, 3), np.uint8)
  stripes[:, ::2] = 255
  small = pixels.fit(Image.fromarray(stripes), (16, 16), 3, "center")
  np.testing.assert_allclose(small[2:-2, 2:-2].astype(int), 127.5, atol=3)


def test_center_crop_and_pad_never_squash():
  image = Image.new("RGB", (96, 32), GREEN)
  image.paste(RED, (0, 0, 32, 32))
  image.paste(BLUE, (64, 0, 96, 32))
  cropped = pixels.fit(image, (32, 32), 3, "center")
  np.testing.assert_array_equal(cropped, np.full((32, 32, 3), GREEN))
  padded = pixels.fit(image, (48, 48), 3, "pad")
  assert (padded[:16] == 255).all() and (padded[32:] == 255).all()
  for column, color in ((7, RED), (24, GREEN), (40, BLUE)):
    np.testing.assert_allclose(padded[24, column].astype(int), color, atol=2)
  transparent = pixels.fit(image, (48, 48), 4, "pad")
  assert (transparent[:16, :, 3] == 0).all()
  assert (transparent[16:32, :, 3] == 255).all()


def test_unusable_images_are_left_out_or_an_error(dataset, tmp_path):
  save(dataset, "good.png", halves(RED, BLUE))
  for name in ("small.png", ".hidden.png"):
    save(dataset, name, Image.new("RGB", (40, 15)))
  (tmp_path / "photos" / "notes.txt").write_bytes(b"no image")
  with pytest.raises(ValueError, match=r"unusable images .*: 1 .*small\.png"):
    prepare(dataset, strict=True)
  assert not any((tmp_path / "data").rglob("*"))
  images = prepare(dataset)
  assert len(images) == images.metadata.num_rejected == 1
  assert rejected(images) == {"small.png": "too small: 40x15"}
  assert "rejected:       1" in data.summary(images.path)
  with pytest.raises(ValueError, match="lacks 1 unusable images"):
    prepare(dataset, strict=True)


def test_impossible_shapes_and_paths(dataset, tmp_path):
  for change, message in (
    ({"resolution": 48}, "resolution is 48; it must be"),
    ({"resolution": 0}, "resolution is 0; it must be"),
    ({"channels": 2}, "channels: 2"),
    ({}, "folder:.*photos has no images"),
  ):
    with pytest.raises(ValueError, match=message):
      prepare(dataset, **change)
  other = ConfigDict({**dataset, "crop": "squash"})
  with pytest.raises(ValueError, match=r"dataset\.crop: 'squash'"):
    prepare(other)
  os.mkfifo(tmp_path / "pipe")
  for path, message in (
    ("", r"dataset\.path is empty"),
    (str(tmp_path / "nowhere"), "nowhere does not exist"),
    (str(tmp_path / "pipe"), "neither a folder nor a zip file"),
  ):
    dataset.path = path
    with pytest.raises(ValueError, match=message):
      prepare(dataset)


def test_order_is_natural_and_nested(dataset):
  names = ["b/1.png", "img10.png", "img2.png", "a/b/3.png"]
  for name in names:
    save(dataset, name, Image.new("RGB", (16, 16)))
  with folder.open_folder(dataset, 16) as source:
    assert source.names == ["a/b/3.png", "b/1.png", "img2.png", "img10.png"]
    assert source.class_names == ()


def test_preparing_twice_prepares_once(dataset, tmp_path, monkeypatch):
  save(dataset, "1.png", halves(RED, BLUE))
  first = prepare(dataset)
  assert first.metadata.num_classes == 0
  assert first.path.name.startswith("photos-")
  assert first.path.name.endswith("-16x16x3")
  # The content hash tells images, not places; folders of one name differ.
  again = prepare(dataset, output=tmp_path / "again")
  assert first.metadata.content_hash == again.metadata.content_hash
  other = ConfigDict({**dataset, "path": str(tmp_path / "other" / "photos")})
  save(other, "1.png", halves(BLUE, RED))
  second = prepare(other)
  assert first.path != second.path
  assert first.metadata.content_hash != second.metadata.content_hash
  monkeypatch.setattr(set_writer, "write_set", None)  # would fail if called
  assert prepare(dataset).path == first.path


def test_prepared_directory_is_a_source_as_it_is(dataset):
  save(dataset, "1.png", halves(RED, BLUE))
  path = prepare(dataset).path
  dataset.path = str(path)
  assert data.prepare(dataset, 16, 3) == path
  with pytest.raises(ValueError, match="at 16x16 .* says 32x32"):
    data.prepare(dataset, 32, 3)
  with pytest.raises(ValueError, match="3 channels.*1 channels"):
    data.prepare(dataset, 16, 1)


def test_other_content_is_never_overwritten(dataset, tmp_path):
  save(dataset, "1.png", halves(RED, BLUE))
  output = tmp_path / "output"
  output.mkdir()
  assert prepare(dataset, output=output).path == output  # it was empty
  mine = tmp_path / "mine"
  mine.mkdir()
  (mine / "thesis.txt").write_text("important")
  with pytest.raises(ValueError, match="mine exists and is not a prepared"):
    prepare(dataset, output=mine)
  assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
