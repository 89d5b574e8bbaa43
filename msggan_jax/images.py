"""Images: uint8 and [-1, 1], the pyramid of scales, grids, PNG files."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

Pyramid = tuple[jax.Array, ...]  # low to high resolution, each (B, H, W, C)


def to_float(images: jax.Array) -> jax.Array:
  """Map uint8 images to [-1, 1].

  Args:
    images: uint8, any shape.

  Returns:
    JAX's default float (float32) of the same shape: images / 127.5 - 1.
  """
  return images.astype(jnp.result_type(float)) / 127.5 - 1.0


def to_uint8(images: jax.Array | np.ndarray) -> np.ndarray:
  """Map images in [-1, 1] to uint8, the inverse of `to_float`.

  Args:
    images: Real numbers, any shape; values outside [-1, 1] are clipped, which
      the linear `to_rgb` of the paper's generator needs.

  Returns:
    uint8 NumPy array of the same shape, rounded to the nearest level.
  """
  images = np.asarray(images, np.float32)
  return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def downsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Average non-overlapping squares.

  Sums of strided parts are several times as fast on CPUs as a mean over middle
  axes; its derivative is an `upsample`, whose derivative is this.

  Args:
    x: (B, H, W, C), H and W multiples of `factor`.
    factor: Side of the squares.

  Returns:
    (B, H / factor, W / factor, C).
  """
  x = sum(x[:, i::factor] for i in range(factor))
  return sum(x[:, :, j::factor] for j in range(factor)) / factor**2


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def upsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Repeat every pixel `factor` times in both directions (nearest neighbour).

  Args:
    x: (B, H, W, C).
    factor: How many times.

  Returns:
    (B, H * factor, W * factor, C).
  """
  b, h, w, c = x.shape
  # (B, H, W, C) -> (B, H, f, W, f, C) -> (B, H f, W f, C)
  x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


downsample.defvjp(
  lambda x, factor: (downsample(x, factor), None),
  lambda factor, _, y: (upsample(y, factor) / factor**2,),
)
upsample.defvjp(
  lambda x, factor: (upsample(x, factor), None),
  lambda factor, _, y: (downsample(y, factor) * factor**2,),
)


def make_pyramid(images: jax.Array, resolutions: tuple[int, ...]) -> Pyramid:
  """Make the real pyramid by repeated 2x2 averaging (paper, section 3).

  Args:
    images: (B, R, R, C), R the largest of `resolutions`.
    resolutions: Resolutions of the pyramid, low to high.

  Returns:
    One image batch per resolution, low to high, the last one `images` itself.
  """
  scales = {images.shape[1]: images}
  while images.shape[1] > min(resolutions):
    images = downsample(images)
    scales[images.shape[1]] = images
  return tuple(scales[resolution] for resolution in resolutions)


def grid_columns(resolution: int) -> int:
  """Return how many images a square grid of about 1,000 pixels has a side."""
  return min(8, max(2, 1024 // resolution))


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
  """Lay images out in rows, left to right and top to bottom.

  Args:
    images: uint8, (N, H, W, C).
    columns: Images in a row; by default as near to a square as possible.

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


def scale_sheet(pyramid: tuple[np.ndarray, ...], examples: int) -> np.ndarray:
  """Show all scales of the same latents: a row a scale, a column a latent.

  Args:
    pyramid: uint8 images per scale, low to high, each (N, H, W, C).
    examples: How many of the N to show.

  Returns:
    uint8 sheet; each scale is enlarged by repetition to the full resolution.
  """
  full = pyramid[-1].shape[1]
  rows = []
  for images in pyramid:
    images = images[:examples]
    factor = full // images.shape[1]
    rows.append(images.repeat(factor, axis=1).repeat(factor, axis=2))
  return grid(np.concatenate(rows), columns=min(examples, len(rows[0])))


def save_png(image: np.ndarray, path: str | Path) -> None:
  """Write one image as PNG, making its folder.

  Args:
    image: uint8, (H, W, C); the first three channels are shown if C > 4.
    path: Where to write.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if image.shape[-1] > 4:
    image = image[..., :3]
  if image.shape[-1] == 1:
    image = image[..., 0]
  Image.fromarray(image).save(path)
