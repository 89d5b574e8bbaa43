"""Progress bars, on stderr."""

import sys

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
