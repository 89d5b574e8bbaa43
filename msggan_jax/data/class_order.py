"""Batches whose neighbours share a class, for the minibatch stddev."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msggan_jax.data.prepared_set import PreparedSet

_FILE = "labels.bin"  # of all images, in order
_DTYPE = "<i4"


class ClassOrder:
  """The images of a set epoch by epoch, shuffled in groups of one class.

  Every epoch has groups and an order of its own. A class whose size is not a
  multiple of the group fills its last one with some of its images again.
  """

  def __init__(
    self, images: PreparedSet, group: int, *, seed: int, epochs: int
  ):
    """Read the labels.

    Args:
      images: Images and labels.
      group: Successive images that share a class.
      seed: Seed of the order, from 0 to 2**32 - 1.
      epochs: Number of epochs.
    """
    self._images = images
    self._group = group
    self._seed = seed
    self._epochs = epochs
    self._labels = read_labels(images)
    sizes = np.unique(self._labels, return_counts=True)[1]
    self._epoch_size = int(np.sum(-(-sizes // group))) * group
    # Threads ask for it at the same time, around the end of an epoch for two.
    self._numbers_of = functools.lru_cache(maxsize=2)(self._draw_numbers)

  def __len__(self) -> int:
    """Return the number of images of all epochs."""
    return self._epoch_size * self._epochs

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Read one image, as the set does."""
    epoch, place = divmod(index, self._epoch_size)
    return self._images[int(self._numbers_of(epoch)[place])]

  def _draw_numbers(self, epoch: int) -> np.ndarray:
    """Return the numbers of an epoch's images, in its order."""
    random = np.random.default_rng((self._seed, epoch))
    shuffled = random.permutation(len(self._labels))
    by_class = shuffled[np.argsort(self._labels[shuffled], kind="stable")]
    ends = np.flatnonzero(np.diff(self._labels[by_class])) + 1
    filled = [
      np.resize(own, -(-len(own) // self._group) * self._group)
      for own in np.split(by_class, ends)
    ]
    groups = np.concatenate(filled).reshape(-1, self._group)
    return random.permutation(groups).reshape(-1)


def write_labels(path: Path, labels: Sequence[int]) -> None:
  """Write the labels of all images of a set into its folder."""
  np.array(labels, _DTYPE).tofile(path / _FILE)


def read_labels(images: PreparedSet) -> np.ndarray:
  """Return the label of each image of a set, int32.

  A set older than the labels' file is read record by record.
  """
  path = images.path / _FILE
  labels = np.fromfile(path, _DTYPE) if path.is_file() else ()
  if len(labels) > images.numbers.max():
    return labels[images.numbers]
  return np.array([images.label(i) for i in range(len(images))], _DTYPE)
