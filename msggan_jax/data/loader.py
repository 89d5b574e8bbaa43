"""Endless batches of a prepared set, in an order that depends on the seed."""

import functools
from collections.abc import Iterator

import numpy as np

from msggan_jax.data.prepared_set import PreparedSet, read_labels
from msggan_jax.runtime.machine import usable_cores

# Endless for us. Grain's own infinity overflows in a batch of one image.
_EPOCHS = 2**32


def make_loader(
  prepared: PreparedSet,
  *,
  batch_size: int,
  seed: int,
  first_step: int = 0,
  first_image: int = 0,
  class_group: int = 1,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Return an endless iterator of shuffled batches.

  Every epoch has its own order; a batch may span two. A step's batch depends
  only on the seed and the step, so starting at a later step, or with other
  batches at a later image, equals having run from 0. The batches of all
  processes, concatenated in process order, are that of a single process.

  Args:
    batch_size: Of all processes, a multiple of their number.
    seed: From 0 to 2**32 - 1.
    first_step: The first batch of those from `first_image` on.
    class_group: Neighbors that share a class; 1: they need not.

  Returns:
    Iterator of this process's part: "image", (N, H, W, C) as stored, and
    "label", int32, (N,). Its `close()` ends the threads that read ahead.
  """
  if batch_size % process_count:
    raise ValueError(
      f"batch_size: {batch_size} is not a multiple of {process_count} processes"
    )
  import grain  # imports JAX, which preparation does not need

  if class_group > 1:
    images = grain.MapDataset.source(
      ClassOrder(prepared, class_group, seed=seed, epochs=_EPOCHS)
    )
  else:
    images = grain.MapDataset.source(prepared).shuffle(seed).repeat(_EPOCHS)
  if first_image:
    images = images[first_image:]
  batches = images.batch(batch_size // process_count)
  batches = batches[process_index::process_count]
  # A thread makes a whole batch, so the buffer is as small as Grain allows:
  # one batch per thread.
  threads = min(16, max(2, usable_cores()))
  iterator = iter(
    batches.to_iter_dataset(
      grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    )
  )
  iterator.set_state({"next_index": first_step})
  return iterator


class ClassOrder:
  """The images of a set epoch by epoch, shuffled in groups of one class.

  Every epoch has groups and an order of its own. A class whose size is not a
  multiple of the group fills its last one with some of its images again.
  """

  def __init__(
    self, images: PreparedSet, group: int, *, seed: int, epochs: int
  ):
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
    return self._epoch_size * self._epochs

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    epoch, place = divmod(index, self._epoch_size)
    return self._images[int(self._numbers_of(epoch)[place])]

  def _draw_numbers(self, epoch: int) -> np.ndarray:
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
