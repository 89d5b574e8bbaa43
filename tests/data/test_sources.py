"""Demo sets, LSUN and TFDS as sources."""

import os
import shutil

import lmdb
import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import pixels, record_writer
from msggan_jax.data.sources import config_of, demo, tfds_sets


@pytest.fixture(scope="module")
def cats():
  wanted = config_of("demo:cats", 64, labels="bodies")
  with demo.open_cats(wanted.dataset, 64) as source:
    return source


def test_cats_are_unique_and_splits_disjoint():
  train = {demo.cat_parts(i) for i in range(20_000)}
  test = {demo.cat_parts(i, "test") for i in range(4_000)}
  assert (len(train), len(test), len(train & test)) == (20_000, 4_000, 0)
  with pytest.raises(IndexError):
    demo.cat_parts(4_000, "test")
  # Written down when the order was chosen: metrics rely on it.
  assert demo.cat_parts(0) == (2, 9, 4, 2, 1)
  assert demo.cat_parts(0, "test") == (7, 2, 14, 4, 4)
  # Every part is used about equally often; one fur is a copy of another.
  bodies = np.bincount([parts.body for parts in train])
  furs = np.bincount([parts.fur for parts in train])
  np.testing.assert_allclose(bodies, 20_000 / 15, rtol=0.15)
  np.testing.assert_allclose(np.delete(furs, 6), 20_000 / 9, rtol=0.15)
  assert furs[6] == 0


def test_cats_can_have_their_bodies_as_classes(cats):
  images = [cats.load(i) for i in range(200)]
  bodies = [demo.cat_parts(i).body for i in range(200)]
  assert [label for _, label in images] == bodies
  flank = {
    name: np.mean(
      [np.asarray(x)[48, 32] for x, label in images if label == number], axis=0
    )
    for number, name in enumerate(cats.class_names)
  }
  assert len(flank) == 15
  colors = [flank[name].argmax() for name in ("coral", "green", "blue")]
  assert colors == [0, 1, 2]


def test_cats_match_pillows_own_composition(cats):
  canvas = Image.new("RGBA", (1024, 1024), "white")
  root = demo._package_file("robohash", "robohash/sets/set4")
  for folder, part in zip(
    sorted(root.iterdir()), demo.cat_parts(7), strict=True
  ):
    (file,) = folder.glob(f"{part:03d}#*.png")
    with Image.open(file) as layer:
      canvas.alpha_composite(layer.convert("RGBA"))
  expected = canvas.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)
  difference = np.asarray(cats.load(7)[0]).astype(int) - np.asarray(expected)
  assert np.abs(difference).mean() < 2


def test_earth_splits_share_no_pixel_and_show_land():
  columns = {}
  for split in ("train", "test"):
    wanted = config_of("demo:earth", 64, split=split)
    with demo.open_earth(wanted.dataset, 64) as earth:
      assert len(earth.names) > 300
      tile, _ = earth.load(0)
      assert tile.size == (128, 128)
      lefts = [int(name.split()[3].rstrip(",")) for name in earth.names]
      columns[split] = {
        column for left in set(lefts) for column in range(left, left + 128)
      }
  assert not columns["train"] & columns["test"]


def test_lsun_is_read_from_its_lmdb(tmp_path):
  source = tmp_path / "church_outdoor_train_lmdb"
  values = {
    b"b": pixels.encode_png(np.zeros((32, 40, 3), np.uint8)),
    b"a": pixels.encode_png(np.full((50, 32, 3), 200, np.uint8)),
    b"c": b"no image",
  }
  with lmdb.open(str(source)) as environment:
    with environment.begin(write=True) as transaction:
      for key, value in values.items():
        transaction.put(key, value)
  wanted = config_of(f"lmdb:{source}", 32, data_dir=str(tmp_path / "data"))
  del wanted.dataset.labels, wanted.dataset.holdout  # as in older runs
  path = data.prepare(wanted)
  assert path == tmp_path / "data" / "lsun_church-32x32x3"
  images = data.open_prepared(path)
  assert [image["image"][16, 16, 0] for image in images] == [200, 0]
  assert images.metadata.num_rejected == 1
  database = source / "data.mdb"
  os.truncate(database, database.stat().st_size // 2)
  shutil.rmtree(path)
  with pytest.raises(ValueError, match=r"data\.mdb is incomplete; unzip"):
    data.prepare(wanted)
  database.write_text("<html>not found")
  with pytest.raises(ValueError, match=r"data\.mdb: .*; unzip it again"):
    data.prepare(wanted)


def test_other_names_and_splits_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds_sets, "find_spec", lambda name: None)
  path = str(tmp_path / "nowhere")
  for name, split, message in (
    ("cats", "validation", "'validation' is none of"),
    ("earth", "validation", "'validation' is none of"),
    ("lsun_church", "train", "church_outdoor_train_lmdb"),
    ("cifar10", "train", "TensorFlow to prepare 'cifar10': pip"),
    ("cifar11", "train", "'folder'.*did you mean.*'cifar10'"),
  ):
    fields = {"name": name, "split": split, "path": path, "data_dir": path}
    with pytest.raises(ValueError, match=message):
      data.prepare(config_of("", 32, **fields))
  assert not list(tmp_path.iterdir())


def test_tfds_images_are_resized_and_keep_their_labels(tmp_path):
  # TFDS finds a data set by its files alone, as it does for cifar10 on disk.
  directory = tmp_path / "tfds" / "images" / "1.0.0"
  directory.mkdir(parents=True)

  def write(count):
    theirs = data.Metadata("", "", "", 64, 3, class_names=("a", "b"))
    writer = record_writer.RecordWriter(directory, theirs)
    writer.add(
      (pixels.encode_png(np.full((64, 64, 3), 50 * i, np.uint8)), i)
      for i in range(count)
    )
    writer.close()

  write(4)
  fields = {"path": str(tmp_path / "tfds"), "data_dir": str(tmp_path)}
  wanted = config_of("tfds:images", 16, channels=1, **fields)
  images = data.open_prepared(data.prepare(wanted))
  assert [int(image["image"][8, 8, 0]) for image in images] == [0, 50, 100, 150]
  assert data.prepare(wanted) == images.path
  write(5)  # another download
  with pytest.raises(data.OutOfDate, match="1 image added, such as train 4$"):
    data.prepare(wanted, unchanged=True)
  other = data.prepare(wanted)
  assert len(data.open_prepared(other)) == 5
  away = directory.rename(tmp_path / "away")
  assert data.prepare(wanted) in (images.path, other)
  away.rename(directory)
  wanted.dataset.split = "nope"
  with pytest.raises(ValueError, match="'nope' of images"):
    data.prepare(wanted)
