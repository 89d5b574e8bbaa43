"""Grids of images and PNG files."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngInfo

from msggan_jax.data.pixels import MARK, MODES, SHEET, to_eight_bits, to_image
from msggan_jax.runtime import files


def grid_columns(resolution: int) -> int:
  """Return how many images a square grid of about 1,000 pixels has a side."""
  return min(8, max(2, 1024 // resolution))


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
  """Lay uint8 images, (N, H, W, C), out in rows: (rows * H, columns * W, C).

  By default as near to a square as possible; places without an image are black.
  """
  n, h, w, c = images.shape
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  canvas = np.zeros((rows * columns, h, w, c), np.uint8)
  canvas[:n] = images
  # (rows, columns, H, W, C) -> (rows, H, columns, W, C)
  canvas = canvas.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4)
  return canvas.reshape(rows * h, columns * w, c)


def to_rgb(images: np.ndarray) -> np.ndarray:
  """Return gray as RGB, RGBA over white, else the first three of C channels.

  The images are uint8, (..., C), in NumPy or JAX.
  """
  channels = images.shape[-1]
  if channels in (1, 2):
    return images[..., :1].repeat(3, axis=-1)
  if channels == 4:
    pixels = images.astype(np.float32)
    alpha = pixels[..., 3:] / np.float32(255)
    over_white = pixels[..., :3] * alpha + 255 * (1 - alpha)
    return over_white.round().astype(np.uint8)
  return images[..., :3]


def to_levels(images: np.ndarray) -> np.ndarray:
  """Return stored images of any type as uint8, to look at."""
  if images.dtype == np.uint8:
    return images
  if images.dtype == np.uint16:
    return to_eight_bits(images.astype(np.int32))
  return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def stretched(images: np.ndarray) -> np.ndarray:
  """Return one image's channels as uint8, each from its least to its most."""
  x = images.astype(np.float32)
  low, high = x.min((0, 1)), x.max((0, 1))
  scale = 255 / np.where(low < high, high - low, np.inf)
  return np.rint((x - low) * scale).astype(np.uint8)


def parse_bands(text: str, channels: int) -> tuple[int, ...]:
  """Parse "3,2,1", channels from 1; "": none are chosen."""
  if not text:
    return ()
  bands = [int(x) if x.strip().isdecimal() else 0 for x in text.split(",")]
  if len(bands) not in (1, 3) or not all(1 <= x <= channels for x in bands):
    raise ValueError(
      f"bands is {text!r}; choose one channel or three, from 1 to {channels}, "
      "such as 3,2,1"
    )
  return tuple(x - 1 for x in bands)


def tiles_per_side(channels: int, colors: bool) -> int:
  """Return how many channels `view` shows beside each other; 1: one picture."""
  if channels in (1, 3) or (colors and channels in MODES):
    return 1
  return math.ceil(math.sqrt(channels))


def view(
  images: np.ndarray, bands: Sequence[int] = (), *, colors: bool = True
) -> np.ndarray:
  """Return pictures of images, uint8 (..., H, W, C): gray, RGB or RGBA.

  Args:
    bands: The channels that are shown; by default all, beside and below each
      other in gray if they are not 1 or 3.
    colors: Whether four channels are RGBA.
  """
  *others, height, width, channels = images.shape
  if bands:
    return images[..., list(bands)]
  if (side := tiles_per_side(channels, colors)) == 1:
    return images
  tiles = np.zeros((*others, height, width, side * side), images.dtype)
  tiles[..., :channels] = images
  tiles = tiles.reshape(*others, height, width, side, side)
  # (..., H, W, rows, columns) -> (..., rows, H, columns, W)
  tiles = np.moveaxis(tiles, (-2, -1), (-4, -2))
  return tiles.reshape(*others, side * height, side * width, 1)


def resized(images: np.ndarray, side: int) -> np.ndarray:
  """Average squares of pixels, so that uint8 images have `side` rows."""
  if images.shape[1] == side:
    return images
  n, h, w, c = images.shape
  factor = h // side
  cells = images.reshape(n, side, factor, w // factor, factor, c)
  return cells.mean(axis=(2, 4)).round().astype(np.uint8)


def scale_sheet(pyramid: tuple[np.ndarray, ...], examples: int) -> np.ndarray:
  """Show all scales of the same latents: a row a scale, a column a latent.

  Each scale, uint8 (N, H, W, C), is enlarged by repetition to the last one's
  resolution.
  """
  full = pyramid[-1].shape[1]
  rows = []
  for images in pyramid:
    images = images[:examples]
    factor = full // images.shape[1]
    rows.append(images.repeat(factor, axis=1).repeat(factor, axis=2))
  return grid(np.concatenate(rows), columns=min(examples, len(rows[0])))


def save_sheet(image: np.ndarray, path: str | Path) -> None:
  """Write a picture of several images; `image_files.open_image` refuses it."""
  about = PngInfo()
  about.add_text(MARK, SHEET)
  save_png(image, path, pnginfo=about)


def save_png(image: np.ndarray, path: str | Path, **options) -> None:
  """Write an image, uint8 (H, W, C) with C = 1, 3 or 4, as PNG.

  The file is written completely or not at all; options are those of Pillow.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path, durable=False) as temporary:
    to_image(image).save(temporary, "PNG", **options)
