"""Image pyramids: their resolutions, resampling, uint8 and [-1, 1]."""

import functools
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msggan_jax.models import base_grid, folded, folded_convolution

Pyramid = tuple[jax.Array, ...]  # low to high resolution, each (B, H, W, C)

# Paper, Table 4. The full resolution is always connected, too.
SCALE_GROUPS = {
  "all": range(4, sys.maxsize),
  "none": (),
  "coarse": (4, 8),
  "middle": (16, 32),
  "fine": range(64, sys.maxsize),
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
    images: Floats, any shape. Values outside [-1, 1] are clipped: the paper's
      linear `to_rgb` overshoots.

  Returns:
    uint8 NumPy array of the same shape, rounded to the nearest level.
  """
  images = np.asarray(images, np.float32)
  return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


@jax.jit
def quantize(images: jax.Array) -> jax.Array:
  """Compute `to_uint8` on the images' devices, to the bit."""
  return jnp.clip(jnp.rint((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def downsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Average non-overlapping squares: average pooling (paper, Table 7).

  Args:
    x: (B, H, W, C), of any fold; H and W are multiples of `factor`.
    factor: Side of the squares, in pixels, a power of two.

  Returns:
    (B, H / factor, W / factor, C). A fold shrinks by the same factor, down to
    1.
  """
  while factor > 1 and folded.fold_of(x) > 1:
    x = folded_convolution.downsample(x)
    factor //= 2
  return _downsample(x, factor) if factor > 1 else x


def upsample(x: jax.Array, factor: int = 2, fold: int = 1) -> jax.Array:
  """Upsample by nearest neighbour (paper, Table 6).

  Args:
    x: (B, H, W, C), of any fold.
    factor: Copies of each pixel along H and along W, a power of two.
    fold: Fold of the result.

  Returns:
    (B, H * factor, W * factor, C), folded.
  """
  if fold == 1:
    return _upsample(folded.refold(x, 1), factor)
  if factor > 2:
    x = upsample(x, factor // 2, fold // 2)
  return folded_convolution.upsample(x, fold)


# On CPUs, sums of strided slices are several times faster than a mean over
# middle axes. The custom derivatives keep every order of differentiation within
# the pair.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _downsample(x: jax.Array, factor: int) -> jax.Array:
  def by_axis(x):
    x = sum(x[:, i::factor] for i in range(factor))
    return sum(x[:, :, j::factor] for j in range(factor))

  def at_once(x):
    # TPUs write no sum of rows, but the result, which has several readers.
    offsets = itertools.product(range(factor), repeat=2)
    x = sum(x[:, i::factor, j::factor] for i, j in offsets)
    return jax.lax.optimization_barrier(x / factor**2)

  return jax.lax.platform_dependent(
    x, tpu=at_once, default=lambda x: by_axis(x) / factor**2
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _upsample(x: jax.Array, factor: int) -> jax.Array:
  b, h, w, c = x.shape
  # (B, H, W, C) -> (B, H, f, W, f, C) -> (B, H f, W f, C)
  x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


_downsample.defvjp(
  lambda x, factor: (_downsample(x, factor), None),
  lambda factor, _, y: (_upsample(y, factor) / factor**2,),
)
_upsample.defvjp(
  lambda x, factor: (_upsample(x, factor), None),
  lambda factor, _, y: (_downsample(y, factor) * factor**2,),
)


def resolutions_up_to(resolution: int) -> tuple[int, ...]:
  """Return (4, 8, ..., resolution)."""
  return tuple(2**i for i in range(2, resolution.bit_length()))


def resolution_of(images: jax.Array | np.ndarray) -> int:
  """Return the resolution of images, (B, H, W, C), of any fold.

  It is the name of their scale: the side of square ones in pixels, else what
  `runtime.base_grid` says.
  """
  return base_grid.resolution_of(images.shape[1], images.shape[2])


def make_pyramid(images: jax.Array, resolutions: tuple[int, ...]) -> Pyramid:
  """Build the pyramid of real images by 2x2 averaging (paper, section 3).

  Args:
    images: (B, H, W, C), of the largest resolution.
    resolutions: Resolutions of the pyramid, low to high.

  Returns:
    Images per resolution, low to high; the last are `images` themselves.
  """
  scales = {resolution_of(images): images}
  while min(scales) > min(resolutions):
    images = downsample(images)
    scales[resolution_of(images)] = images
  return tuple(scales[resolution] for resolution in resolutions)


def connected_scales(config: ConfigDict) -> tuple[int, ...]:
  """Return the resolutions of the pyramid, low to high (paper, Table 4).

  Args:
    config: Its `connected_scales` is a key of `SCALE_GROUPS` or a list of
      resolutions. The full resolution is always connected.

  Raises:
    ValueError: If `connected_scales` is neither.
  """
  scales = resolutions_up_to(config.resolution)
  chosen = config.connected_scales
  if isinstance(chosen, str) and chosen in SCALE_GROUPS:
    chosen = SCALE_GROUPS[chosen]
  else:
    if isinstance(chosen, int | str):
      chosen = (chosen,)
    if not set(chosen) <= set(scales):
      raise ValueError(
        f"config.connected_scales is {config.connected_scales!r}; choose one "
        f"of {', '.join(SCALE_GROUPS)} or a list of resolutions from {scales}"
      )
  return tuple(r for r in scales if r in chosen or r == config.resolution)
