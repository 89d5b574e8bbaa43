"""Progress bars, on stderr."""

import sys

from tqdm import tqdm

_SECS_WITHOUT_TERMINAL = 30  # between two lines


def bar(total: int, title: str, unit: str) -> tqdm:
  """Return a progress bar of units such as "images"; without title, none."""
  interval = 0.1 if sys.stderr.isatty() else _SECS_WITHOUT_TERMINAL
  return tqdm(
    total=total,
    desc=title,
    unit=f" {unit}",
    disable=not title,
    mininterval=interval,
  )
