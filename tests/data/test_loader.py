"""Batches of a set made here: image i is filled with the level i."""

import itertools
import subprocess
import sys
import types

import ml_collections
import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.data import pixels, prepared_set, record_writer
from msggan_jax.training import batches
from tests.conftest import CONFIGS, load_config

LABELS = np.array([0, 2, 0, 1, 0, 2, 0, 1, 0, 2], np.int32)  # 5, 2 and 3 images
NUM = len(LABELS)
IN_PAIRS = 12  # images of an epoch whose neighbors share a class


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  path = tmp_path_factory.mktemp("set")
  metadata = data.Metadata(
    *("test", "", "center", 8, 3), num_images=NUM, class_names=tuple("abc")
  )
  writer = record_writer.RecordWriter(path, metadata)
  for numbers in (range(6), range(6, NUM)):  # two shards
    writer.add(
      (pixels.encode_png(np.full((8, 8, 3), i, np.uint8)), int(LABELS[i]))
      for i in numbers
    )
  writer.close()
  prepared_set.write_labels(path, LABELS)
  prepared_set.write_metadata(path, metadata)
  return data.open_prepared(path)


def read(images, steps, batch_size=4, seed=3, **options):
  """Return the numbers of the images in each batch, (steps, B)."""
  options |= {"batch_size": batch_size, "seed": seed}
  loader = data.make_loader(images, **options)
  read = [*itertools.islice(loader, steps)]
  loader.close()
  for batch in read:
    image, label = batch["image"], batch["label"]
    assert image.shape[1:] == (8, 8, 3)
    assert (image.dtype, label.dtype) == ("u1", "i4")
    assert (image == image[:, :1, :1, :1]).all()
    np.testing.assert_array_equal(label, LABELS[image[:, 0, 0, 0]])
  return np.stack([batch["image"][:, 0, 0, 0] for batch in read])


@pytest.mark.parametrize("batch_size", [4, 20])
def test_each_epoch_is_another_permutation(images, batch_size):
  # 15 batches of 4 are 6 epochs of 10, joined without dropping an image.
  epochs = read(images, 60 // batch_size, batch_size).reshape(6, NUM)
  for epoch in epochs:
    assert sorted(epoch) == list(range(NUM))
  assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("class_group", [1, 2])
def test_a_batch_depends_on_the_seed_and_the_step_alone(images, class_group):
  options = {"batch_size": 6, "class_group": class_group}
  whole = read(images, 53, **options)
  later = read(images, 3, first_step=50, **options)
  np.testing.assert_array_equal(later, whole[50:])
  parts = [
    read(
      images, 4, first_step=2, process_index=index, process_count=3, **options
    )
    for index in range(3)
  ]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[2:6])
  assert not np.array_equal(read(images, 5, seed=4, **options), whole[:5])


def test_an_epoch_has_every_image_and_groups_of_one_class(images):
  numbers = read(images, 15, class_group=2)
  groups = set()
  for epoch in numbers.reshape(-1, IN_PAIRS):
    counts = np.bincount(epoch, minlength=NUM)
    assert counts.min() == 1 and counts.sum() == IN_PAIRS
    # An image of each odd class fills a pair.
    assert sorted(LABELS[counts == 2]) == [0, 2]
    pairs = epoch.reshape(-1, 2)
    assert all(LABELS[a] == LABELS[b] for a, b in pairs)
    groups.add(frozenset(map(frozenset, pairs.tolist())))
  assert len(groups) == len(numbers) * 4 // IN_PAIRS


def test_groups_of_the_stddev_share_a_class(images):
  config = load_config("demo")
  config.batch_size = config.stddev_group = 4
  config.num_classes = 3
  for fields in (
    {"num_classes": 0},
    {"stddev_grouping": "strided"},
    {"stddev_placement": "none"},
    {"stddev_group": 0},
  ):
    other = ml_collections.ConfigDict({**config.to_dict(), **fields})
    assert batches._class_group(other) == 1
  state = types.SimpleNamespace(step=0, rollbacks=0)
  loader = batches.make_loader(config, state, images)
  labels = [batch["label"] for batch in itertools.islice(loader, 10)]
  loader.close()
  assert all(len(set(batch)) == 1 for batch in labels)
  assert len(set(map(max, labels))) == 3


def test_uneven_processes_and_other_folders_are_refused(images):
  with pytest.raises(ValueError, match="not a prepared data set"):
    data.open_prepared(images.path.parent)
  with pytest.raises(ValueError, match="batch_size: 7"):
    data.make_loader(images, batch_size=7, seed=0, process_count=2)


def test_imports_are_late_and_an_unclosed_loader_ends(images):
  script = (
    "import runpy, sys; from msggan_jax import data; "
    f"runpy.run_path({str(CONFIGS / 'ffhq.py')!r})['get_config'](); "
    "assert 'jax' not in sys.modules; "
    f"images = data.open_prepared({str(images.path)!r}); "
    "loader = data.make_loader(images, batch_size=4, seed=0); next(loader); "
    "assert 'tensorflow' not in sys.modules"
  )
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", script],
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert (done.returncode, done.stderr) == (0, "")
