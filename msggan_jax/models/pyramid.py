"""The pyramid of scales: its resolutions, its images, uint8 and [-1, 1]."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

Pyramid = tuple[jax.Array, ...]  # low to high resolution, each (B, H, W, C)

# The connected scales of the paper's Table 4, besides the full resolution.
SCALE_GROUPS = {
  "all": lambda r: True,
  "none": lambda r: False,
  "coarse": lambda r: r in (4, 8),
  "middle": lambda r: r in (16, 32),
  "fine": lambda r: r >= 64,
}


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


def connected_scales(config: ConfigDict) -> tuple[int, ...]:
  """Return the resolutions of the pyramid, low to high (paper, Table 4).

  Args:
    config: `connected_scales` is a key of `SCALE_GROUPS` or a list of
      resolutions; the full one is always connected.

  Raises:
    ValueError: If it is neither.
  """
  scales = [2**i for i in range(2, config.resolution.bit_length())]
  chosen = config.connected_scales
  if isinstance(chosen, str) and chosen in SCALE_GROUPS:
    connected = SCALE_GROUPS[chosen]
  else:
    if isinstance(chosen, int | str):
      chosen = (chosen,)
    if not set(chosen) <= set(scales):
      raise ValueError(
        f"config.connected_scales is {config.connected_scales!r}; choose one "
        f"of {', '.join(SCALE_GROUPS)} or a list of resolutions from {scales}"
      )
    connected = set(chosen).__contains__
  return tuple(r for r in scales if connected(r) or r == config.resolution)
