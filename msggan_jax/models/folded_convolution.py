"""Convolutions of folded rows, see `folded`.

JAX derives them: derivatives of any order are such convolutions again.
"""

import jax
import jax.numpy as jnp

from msggan_jax.models import folded
from msggan_jax.models.precision import TRUE_FLOAT32, Products


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  *,
  fold: int,
  shifts: tuple[int, int] = (0, 0),
) -> jax.Array:
  """Convolve with zero padding.

  Args:
    x: (B, H, positions, I f).
    kernel: (k, k, I, O), k odd.
    products: Precision of float32 on accelerators.
    fold: f of x and of the result.
    shifts: Of x and of the result.

  Returns:
    (B, H, positions, O f). If shifted, its pixels outside the image are not
    zero.
  """
  taps = folded.meeting_taps(kernel.shape[1], fold, shifts=shifts)
  margin = kernel.shape[0] // 2
  return _convolve(
    x,
    folded.scatter(kernel, taps.weights),
    products,
    padding=[(margin, margin), taps.padding],
  )


def convolve_narrow(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  *,
  fold: int,
  shifts: tuple[int, int] = (0, 0),
) -> jax.Array:
  """Compute `convolve` for few channels, such as those of images.

  TPUs would pad them to 128 for each of the kernel's taps. Here the pixels that
  a position depends on become its channels, for one product.
  """
  taps = folded.meeting_taps(kernel.shape[1], fold, shifts=shifts)
  kernel = folded.scatter(kernel, taps.weights)
  h, t, lanes, out = kernel.shape
  x = jnp.pad(x, ((0, 0), (h // 2, h // 2), taps.padding, (0, 0)))
  rows, positions = x.shape[1] - h + 1, x.shape[2] - t + 1
  patches = [
    x[:, i : i + rows, j : j + positions] for i in range(h) for j in range(t)
  ]
  return _convolve(
    jnp.concatenate(patches, axis=-1),
    kernel.reshape(1, 1, h * t * lanes, out),
    products,
    padding=[(0, 0), (0, 0)],
  )


def convolve_ones(
  kernel: jax.Array,
  height: int,
  positions: int,
  *,
  fold: int,
  shift: int = 0,
) -> jax.Array:
  """Convolve a channel of ones with zero padding.

  Args:
    kernel: (3, 3, 1, O).
    height: H.
    positions: W / f.
    fold: Fold of the result.
    shift: Shift of the result.

  Returns:
    (1, H, positions, O f): equal everywhere but at the border, so that few
    rows and positions give all.
  """
  ones = jnp.ones((1, min(height, 3), min(positions, 3), fold), kernel.dtype)
  y = convolve(ones, kernel, fold=fold, shifts=(0, shift))
  for axis, size in ((1, height), (2, positions)):
    if size > 3:
      first, middle, last = jnp.split(y, [1, 2], axis=axis)
      middle = jnp.repeat(middle, size - 2, axis=axis)
      y = jnp.concatenate([first, middle, last], axis=axis)
  return y


def upsample_convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  *,
  fold: int,
  shift: int = 0,
) -> jax.Array:
  """Upsample by nearest neighbour, then convolve with zero padding.

  Doubled rows are dilated rows, which meet two of four kernel rows. Doubled
  pixels of a row share their taps, so a position of the result depends on three
  positions of x, on two if shifted.

  Args:
    x: (B, H, W, I), of any fold.
    kernel: (3, 3, I, O).
    products: Precision of float32 on accelerators.
    fold: f of the result, above 1.
    shift: Shift of the result.

  Returns:
    (B, 2 H, positions, O f).
  """
  taps = folded.meeting_taps(3, fold, up=2, shifts=(0, shift))
  return _convolve(
    folded.refold(x, fold // 2),
    folded.scatter(spread_rows(kernel), taps.weights),
    products,
    padding=[(2, 2), taps.padding],
    lhs_dilation=(2, 1),
  )


def convolve_downsample(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Convolve with zero padding, then average 2x2 pixels: stride 2 along H.

  Args:
    x: (B, 2 H, 2 W, I), folded.
    kernel: (3, 3, I, O).
    products: Precision of float32 on accelerators.

  Returns:
    (B, H, W, O), of half the fold.
  """
  taps = folded.meeting_taps(3, folded.fold_of(x), down=2)
  return _convolve(
    x,
    folded.scatter(spread_rows(kernel) / 2, taps.weights),
    products,
    window_strides=(2, 1),
    padding=[(1, 1), taps.padding],
  )


def spread_rows(kernel: jax.Array) -> jax.Array:
  """Convolve the kernel with two ones along H: (3, ...) to (4, ...)."""
  kernel = jnp.pad(kernel, ((1, 1), (0, 0), (0, 0), (0, 0)))
  return kernel[1:] + kernel[:-1]


def _convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products,
  *,
  padding: list[tuple[int, int]],
  window_strides: tuple[int, int] = (1, 1),
  lhs_dilation: tuple[int, int] = (1, 1),
) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=window_strides,
    padding=padding,
    lhs_dilation=lhs_dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products,
  )
