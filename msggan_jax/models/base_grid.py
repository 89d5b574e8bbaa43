"""Images that are not square: the grid of the smallest scale, doubled.

Every scale has the base grid's aspect ratio. With `base_grid` 3x4, three rows
of four pixels, resolution 256 means images of 192 rows and 256 columns: scale r
has r / 4 times the grid's sides, and keeps r as its name everywhere.
"""

import re
from typing import Any

SQUARE = "4x4"  # the paper's
_LONGEST = range(4, 8)  # so that a scale's name is half its longer side or more


def parse(text: str) -> tuple[int, int]:
  """Return the rows and columns of a base grid such as "3x4", or raise."""
  match = re.fullmatch(r"([1-9])x([1-9])", str(text))
  grid = tuple(map(int, match.groups())) if match else (0, 0)
  if max(grid) not in _LONGEST or 2 * min(grid) <= max(grid):
    raise ValueError(
      f"base_grid is {str(text)[:20]!r}; choose ROWSxCOLUMNS whose longer side "
      "is 4 to 7 and less than twice the shorter, such as 4x4, 3x4 or 4x7"
    )
  return grid


def image_size(resolution: int, grid: tuple[int, int]) -> tuple[int, int]:
  """Return the height and width of a scale's images, in pixels."""
  rows, columns = grid
  return resolution * rows // 4, resolution * columns // 4


def of_size(height: int, width: int) -> tuple[int, str]:
  """Return the resolution and the base grid of images of a size, or raise."""
  resolution = resolution_of(height, width)
  grid = f"{4 * height // resolution}x{4 * width // resolution}"
  try:
    if image_size(resolution, parse(grid)) == (height, width):
      return resolution, grid
  except ValueError:
    pass
  raise ValueError(f"no run makes images of {width}x{height}")


def size_of(config: Any) -> tuple[int, int]:
  """Return the height and width of a configuration's largest images."""
  return image_size(config.resolution, parse(config.base_grid))


def resolution_of(height: int, width: int) -> int:
  """Return the name of the scale whose images have this size."""
  return 1 << (max(height, width).bit_length() - 1)
