"""Sheets: rows and columns of images with titles."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from msggan_jax.data.pictures import to_rgb
from msggan_jax.models import base_grid

_WHITE, _BLACK = 255, (34, 34, 34)
_GAP = 4  # pixels between images
_MARGIN = 8  # pixels around titles
_TEXT = 15  # pixels
_SMALLEST_CELL, _LARGEST_CELL = 128, 256  # pixels


def cell_side(resolution: int) -> int:
  """Return the side at which a sheet shows images of a resolution."""
  return min(_LARGEST_CELL, max(_SMALLEST_CELL, resolution))


def fit(image: np.ndarray, side: int) -> np.ndarray:
  """Show an image, uint8 (H, W, C), as RGB at a resolution, a power of two.

  Its pixels are repeated or averaged.
  """
  image = to_rgb(image)
  height, width = image.shape[:2]
  resolution = base_grid.resolution_of(height, width)
  if side >= resolution:
    factor = side // resolution
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
  size = width * side // resolution, height * side // resolution
  return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def make_sheet(
  rows: Sequence[Sequence[np.ndarray | None]],
  *,
  row_titles: Sequence[str] = (),
  column_titles: Sequence[str] = (),
) -> np.ndarray:
  """Lay images out with titles left and above, black on white, uint8 RGB.

  The images are uint8, (H, W, C), of any resolutions but one aspect ratio,
  shown as large as the largest; None stays empty.
  """
  images = [x for row in rows for x in row if x is not None]
  side = cell_side(max(base_grid.resolution_of(*x.shape[:2]) for x in images))
  # Pillow's own font lacks letters such as psi.
  font = ImageFont.truetype(
    Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _TEXT
  )
  left = _GAP + _extent(font, row_titles)[0]
  top = _GAP + _extent(font, column_titles)[1]
  shown = [[None if x is None else fit(x, side) for x in row] for row in rows]
  sizes = [x.shape[:2] for row in shown for x in row if x is not None]
  height, width = map(max, zip(*sizes, strict=True))
  down, right = height + _GAP, width + _GAP
  columns = max(len(row) for row in rows)
  shape = (top + len(rows) * down, left + columns * right, 3)
  canvas = np.full(shape, _WHITE, np.uint8)
  for i, row in enumerate(shown):
    for j, image in enumerate(row):
      if image is not None:
        y, x = top + i * down, left + j * right
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
  picture = Image.fromarray(canvas)
  draw = ImageDraw.Draw(picture)
  for i, title in enumerate(row_titles):
    place = (left - _MARGIN, top + i * down + height // 2)
    draw.text(place, title, _BLACK, font, anchor="rm", align="right")
  for j, title in enumerate(column_titles):
    place = (left + j * right + width // 2, top - _MARGIN)
    draw.text(place, title, _BLACK, font, anchor="md", align="center")
  return np.asarray(picture)


def _extent(font, titles: Sequence[str]) -> tuple[int, int]:
  """Return the width and height that titles need, with margins."""
  lines = [line for title in titles for line in title.split("\n") if line]
  if not lines:
    return 0, 0
  width = max(int(font.getlength(line)) + 1 for line in lines)
  height = (_TEXT + 4) * max(title.count("\n") + 1 for title in titles)
  return width + 2 * _MARGIN, height + _MARGIN
