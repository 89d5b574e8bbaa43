"""Progress bars, on stderr."""

import sys

from tqdm import tqdm

_SECS_WITHOUT_TERMINAL = 30  # between two lines


def bar(total: int, title: str, unit: str) -> tqdm:
  """Return a progress bar.

  Args:
    total: Number of units.
    title: Text in front of the bar; "": no bar.
    unit: Name of a unit, such as "images".
  """
  interval = 0.1 if sys.stderr.isatty() else _SECS_WITHOUT_TERMINAL
  return tqdm(
    total=total,
    desc=title,
    unit=f" {unit}",
    disable=not title,
    mininterval=interval,
  )
