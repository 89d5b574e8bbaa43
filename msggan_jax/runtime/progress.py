"""Work in batches, and progress bars on stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

_SECS_WITHOUT_TERMINAL = 30  # between two lines


def bar(
  total: int, title: str, unit: str, *, done: int = 0, brief: bool = False
) -> tqdm:
  """Return a progress bar of units such as "images"; without title, none.

  Args:
    done: Units of an earlier process.
    brief: Whether nothing is shown at once, and nothing is left at the end.
  """
  interval = 0.1 if sys.stderr.isatty() else _SECS_WITHOUT_TERMINAL
  return tqdm(
    total=total,
    desc=title,
    unit=f" {unit}",
    disable=not title,
    initial=done,
    mininterval=interval,
    delay=interval if brief else 0,
    leave=not brief,
  )


def map_batches(
  function: Callable[..., Sequence[Any]],
  *arrays: Any,
  batch_size: int,
  title: str = "",
) -> tuple[np.ndarray, ...]:
  """Map arrays, (N, ...), to a function's arrays, (N, ...), in host memory.

  Arguments as in `each_batch`.
  """
  results = each_batch(function, *arrays, batch_size=batch_size, title=title)
  return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


def each_batch(
  function: Callable[..., Sequence[Any]],
  *arrays: Any,
  batch_size: int,
  title: str = "",
) -> Iterator[list[np.ndarray]]:
  """Yield a function's arrays, in host memory, of parts of arrays, (N, ...).

  The function gets batches of one shape; the last example fills the last one.
  An argument None stays None. `title` is that of a progress bar.
  """
  import jax  # late: data sets are prepared without it

  total = len(arrays[0])
  size = min(batch_size, total)
  with bar(total, title, "images") as shown:
    for start in range(0, total, size):
      indices = np.minimum(np.arange(start, start + size), total - 1)
      batch = [None if array is None else array[indices] for array in arrays]
      count = min(size, total - start)
      result = jax.device_get(tuple(function(*batch)))
      yield [part[:count] for part in result]
      shown.update(count)
