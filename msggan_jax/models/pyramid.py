"""Image pyramids: their resolutions, stored images and [-1, 1]."""

import itertools
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels import downsample, like, upsample_like
from msggan_jax.models import base_grid

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
  """Map stored images to [-1, 1], of JAX's default float (float32).

  They are uint8, uint16, or floats in [-1, 1] already.
  """

  def convert(x: jax.Array) -> jax.Array:
    real = x.astype(jnp.result_type(float))
    if jnp.issubdtype(x.dtype, jnp.floating):
      return real
    return real / (jnp.iinfo(x.dtype).max / 2) - 1.0

  return jax.tree.map(convert, images)


def to_uint8(images: jax.Array | np.ndarray) -> np.ndarray:
  """Map images in [-1, 1] to the nearest uint8, the inverse of `to_float`.

  Values outside are clipped: the paper's linear `to_rgb` overshoots.
  """
  images = np.asarray(images)
  if images.dtype.kind in "biu":
    raise ValueError(f"images are {images.dtype} already, not in [-1, 1]")
  images = images.astype(np.float32, copy=False)
  return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


@jax.jit
def quantize(images: jax.Array) -> jax.Array:
  """Compute `to_uint8` on the images' devices, to the bit."""
  return jnp.clip(jnp.rint((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def resolutions_up_to(resolution: int) -> tuple[int, ...]:
  """Return (4, 8, ..., resolution)."""
  return tuple(2**i for i in range(2, resolution.bit_length()))


def resolution_of(images: jax.Array | np.ndarray) -> int:
  """Return the name of the scale of images, (B, H, W, C).

  It is the side of square ones in pixels, else what `base_grid` says.
  """
  return base_grid.resolution_of(images.shape[1], images.shape[2])


def make_pyramid(
  images: jax.Array,
  resolutions: tuple[int, ...],
  downsample: Callable = downsample,
) -> Pyramid:
  """Build the pyramid of real images by 2x2 averaging (paper, section 3).

  Args:
    images: (B, H, W, C), of the largest resolution.
    resolutions: Those of the result, low to high.
    downsample: One of `Kernels`, here and below.
  """
  scales = {resolution_of(images): images}
  while min(scales) > min(resolutions):
    images = downsample(images)
    scales[resolution_of(images)] = images
  return tuple(scales[resolution] for resolution in resolutions)


def join_images(
  images: Sequence[jax.Array], kind: str, downsample: Callable = downsample
) -> Pyramid:
  """Make G's pyramid of the images of `to_rgb`, low to high.

  Args:
    images: Each (B, H, W, C).
    kind: "rgb": they are the pyramid (the paper); "exact": each only adds
      details to the one below, whose pixels become its means; "pooled": all are
      means of the largest.
  """

  def refine(below: jax.Array, image: jax.Array) -> jax.Array:
    means = downsample(image, image.shape[1] // below.shape[1])
    change = jax.tree.map(jnp.subtract, like(below, means), means)
    return image + upsample_like(change, image)

  if kind == "exact":
    return tuple(itertools.accumulate(images, refine))
  if kind == "rgb":
    return tuple(images)
  resolutions = tuple(map(resolution_of, images))
  return make_pyramid(images[-1], resolutions, downsample)


def fade(alpha: jax.Array, image: jax.Array, below: jax.Array) -> jax.Array:
  """Mix images or features with smaller ones, doubled (ProGAN, fig. 2).

  `alpha`, (), is the weight of `image`. Features of one size are only mixed.
  """
  if below.shape != image.shape:
    below = upsample_like(below, image)
  new, old = (x.astype(image.dtype) for x in (alpha, 1 - alpha))
  return image * new + like(below, image) * old


def connected_scales(
  resolution: int, chosen: str | int | Sequence[int]
) -> tuple[int, ...]:
  """Return the resolutions of the pyramid, low to high (paper, Table 4).

  `chosen` is a key of `SCALE_GROUPS` or resolutions, else ValueError.
  """
  scales, given = resolutions_up_to(resolution), chosen
  if isinstance(chosen, str) and chosen in SCALE_GROUPS:
    chosen = SCALE_GROUPS[chosen]
  else:
    if isinstance(chosen, int | str):
      chosen = (chosen,)
    if not set(chosen) <= set(scales):
      raise ValueError(
        f"config.connected_scales is {given!r}; choose one "
        f"of {', '.join(SCALE_GROUPS)} or a list of resolutions from {scales}"
      )
  return tuple(r for r in scales if r in chosen or r == resolution)
