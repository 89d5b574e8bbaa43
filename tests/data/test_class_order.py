"""Tests of batches whose neighbors share a class."""

import itertools
import types

import ml_collections
import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.data import prepared_set
from msggan_jax.training import batches

_LABELS = [0, 2, 0, 1, 0, 2, 0, 1, 0, 2, 2]  # 5, 2 and 4 images
_EPOCH = 12  # in pairs


class _Images:
  """The images of a set: image i is its number."""

  def __init__(self, path):
    self.path = path
    self.numbers = np.arange(len(_LABELS))

  def __len__(self):
    return len(_LABELS)

  def __getitem__(self, index):
    return {"image": np.uint8(index), "label": np.int32(_LABELS[index])}


@pytest.fixture
def images(tmp_path):
  prepared_set.write_labels(tmp_path, _LABELS)
  return _Images(tmp_path)


def read(images, steps, **options):
  options = {"batch_size": 4, "seed": 3, "class_group": 2} | options
  loader = data.make_loader(images, **options)
  batches = list(itertools.islice(loader, steps))
  loader.close()
  return tuple(
    np.stack([batch[name] for batch in batches]) for name in ("image", "label")
  )


@pytest.mark.parametrize("group", [2, 4])
def test_groups_share_a_class(images, group):
  _, labels = read(images, 30, class_group=group)
  groups = labels.reshape(-1, group)
  np.testing.assert_array_equal(groups, groups[:, :1].repeat(group, axis=1))
  assert set(groups[:, 0]) == {0, 1, 2}


def test_an_epoch_has_every_image_and_groups_of_its_own(images):
  numbers, _ = read(images, 15)
  epochs = numbers.reshape(-1, _EPOCH)
  groups = set()
  for epoch in epochs:
    counts = np.bincount(epoch, minlength=len(_LABELS))
    assert counts.min() == 1  # one image of class 0 fills a pair
    assert counts.sum() == len(_LABELS) + 1
    assert np.flatnonzero(counts == 2) in (0, 2, 4, 6, 8)
    groups.add(frozenset(map(frozenset, epoch.reshape(-1, 2))))
  assert len(groups) == len(epochs)


def test_order_depends_on_the_seed_and_the_step_alone(images):
  whole, _ = read(images, 40)
  later, _ = read(images, 5, first_step=35)
  np.testing.assert_array_equal(later, whole[35:])
  other, _ = read(images, 40, seed=4)
  assert not np.array_equal(other, whole)


def test_groups_of_the_stddev_share_a_class(images):
  config = ml_collections.ConfigDict(
    {"batch_size": 4, "num_classes": 3, "seed": 0, "stddev_group": 4}
  )
  config.stddev_grouping, config.stddev_placement = "contiguous", "every_block"
  state = types.SimpleNamespace(step=0, rollbacks=0)
  for fields, grouped in (
    ({}, True),
    ({"num_classes": 0}, False),
    ({"stddev_grouping": "strided"}, False),
    ({"stddev_placement": "none"}, False),
    ({"stddev_group": 0}, False),
  ):
    other = ml_collections.ConfigDict({**config, **fields})
    assert batches._class_group(other) == (4 if grouped else 1)
  loader = batches.make_loader(config, state, images)
  labels = [batch["label"] for batch in itertools.islice(loader, 10)]
  loader.close()
  assert all(len(set(batch)) == 1 for batch in labels)
