"""Grids of images and PNG files."""

import math
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngInfo

from msggan_jax.data.pixels import MARK, SHEET, to_image
from msggan_jax.runtime import files


def grid_columns(resolution: int) -> int:
  """Return how many images a square grid of about 1,000 pixels has a side."""
  return min(8, max(2, 1024 // resolution))


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
  """Lay images out in rows, left to right and top to bottom.

  Args:
    images: uint8, (N, H, W, C).
    columns: By default as near to a square as possible.

  Returns:
    uint8, (rows * H, columns * W, C); places without an image are black.
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
  """Write a picture of several images, which `pixels.open_image` refuses."""
  about = PngInfo()
  about.add_text(MARK, SHEET)
  save_png(image, path, pnginfo=about)


def save_png(image: np.ndarray, path: str | Path, **options) -> None:
  """Write an image, uint8 (H, W, C), as PNG; of C > 4 the first 3 channels.

  The file is written completely or not at all; options are those of Pillow.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if image.shape[-1] > 4:
    image = image[..., :3]
  with files.replacing(path, durable=False) as temporary:
    to_image(image).save(temporary, "PNG", **options)
