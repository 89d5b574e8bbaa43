"""Convolutions of folded rows, see `folded`; arrays are their data.

As in `by_platform`, the convolution and its weight gradient are a pair that
holds derivatives of any order. JAX derives the others.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels.plain import transposed
from msggan_jax.kernels.precision import (
  TRUE_FLOAT32,
  Products,
  at_least_float32,
  products_of,
)
from msggan_jax.kernels.tpu.unfolded import spread_rows


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  fold: int = 1,
  shifts: tuple[int, int] = (0, 0),
) -> jax.Array:
  """Convolve with zero padding.

  Args:
    x: (B, H, positions, I f).
    kernel: (k, k, I, O), k odd.
    products: Precision of float32.
    fold: f of x and of the result.
    shifts: Of x and of the result.

  Returns:
    (B, H, positions, O f). If shifted, its pixels outside the image are not
    zero.
  """
  return _convolve_once(x, kernel, products, fold, shifts)


def _convolve_once(x, kernel, products, fold, shifts):
  taps = meeting_taps(kernel.shape[1], fold, shifts=shifts)
  margin = kernel.shape[0] // 2
  return _convolve(
    x,
    scatter(kernel, taps),
    products,
    padding=[(margin, margin), taps.padding],
  )


def _convolve_forward(x, kernel, *options):
  return convolve(x, kernel, *options), (x, kernel)


def _convolve_backward(products, fold, shifts, residuals, y_bar):
  x, kernel = residuals
  # JAX's own derivative reverses the scattered kernel, and the TPU compiler
  # then reverses features instead of the kernel's gradient.
  x_bar = convolve(y_bar, transposed(kernel), products, fold, shifts[::-1])
  size = kernel.shape[0]
  return x_bar, _correlate(x, y_bar, size, products, fold, shifts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _correlate(x, y, size, products, fold, shifts) -> jax.Array:
  """Return the weight gradient of `convolve`, (size, size, I, O)."""
  taps = meeting_taps(size, fold, shifts=shifts)
  padding = taps.padding
  # The TPU compiler reverses the features on the right if they have more
  # positions; here the gradient is reversed.
  swap = shifts[1] > shifts[0]
  if swap:
    x, y = y, x
    padding = tuple(taps.weights.shape[1] - 1 - pad for pad in padding)
  gradient = jax.lax.conv_general_dilated(
    x,
    y,
    window_strides=(1, 1),
    padding=[(size // 2, size // 2), padding],
    dimension_numbers=("CHWN", "IHWO", "HWNC"),
    precision=products,
  )
  gradient = transposed(gradient) if swap else gradient
  return gather(gradient, taps)


def _correlate_forward(x, y, *options):
  return _correlate(x, y, *options), (x, y)


def _correlate_backward(size, products, fold, shifts, residuals, kernel_bar):
  del size
  x, y = residuals
  x_bar = convolve(y, transposed(kernel_bar), products, fold, shifts[::-1])
  return x_bar, convolve(x, kernel_bar, products, fold, shifts)


convolve.defvjp(_convolve_forward, _convolve_backward)
_correlate.defvjp(_correlate_forward, _correlate_backward)


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
  # Without the custom derivatives, which would vary over devices, unlike ones.
  y = _convolve_once(ones, kernel, TRUE_FLOAT32, fold, (0, shift))
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
  """Upsample by nearest neighbor, then convolve with zero padding.

  Doubled rows are dilated rows, which meet two of four kernel rows. Doubled
  pixels of a row share their taps, so a position of the result depends on three
  positions of x, on two if shifted.

  Args:
    x: (B, H, 2 W / f, I f / 2).
    kernel: (3, 3, I, O).
    products: Precision of float32.
    fold: f of the result, above 1.
    shift: Shift of the result.

  Returns:
    (B, 2 H, positions, O f).
  """
  taps = meeting_taps(3, fold, up=2, shifts=(0, shift))
  return _convolve(
    x,
    scatter(spread_rows(kernel), taps),
    products,
    padding=[(2, 2), taps.padding],
    lhs_dilation=(2, 1),
  )


def convolve_downsample(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  *,
  fold: int,
) -> jax.Array:
  """Convolve with zero padding, then average 2x2 pixels: stride 2 along H.

  Args:
    x: (B, 2 H, positions, I f).
    kernel: (3, 3, I, O).
    products: Precision of float32.
    fold: f.

  Returns:
    (B, H, positions, O f / 2), of half the fold.
  """
  taps = meeting_taps(3, fold, down=2)
  return _convolve(
    x,
    scatter(spread_rows(kernel) / 2, taps),
    products,
    window_strides=(2, 1),
    padding=[(1, 1), taps.padding],
  )


def downsample(x: jax.Array) -> jax.Array:
  """Average 2x2 pixels: (B, H, positions, C f) to half H and half the fold."""
  kernel = _pairs(x.shape[-1], x.dtype) / 4
  return _convolve_rows(x, kernel)


def upsample(x: jax.Array) -> jax.Array:
  """Upsample by nearest neighbor; the transpose of `downsample`, times 4."""
  b, h, positions, width = x.shape
  kernel = _pairs(2 * width, x.dtype)[:1].swapaxes(2, 3)
  x = jnp.broadcast_to(x[:, :, None], (b, h, 2, positions, width))
  x = x.reshape(b, 2 * h, positions, width)
  return _convolve_rows(x, kernel)


def blur_rows(x: jax.Array, f: int, shift: int = 0) -> jax.Array:
  """Blur along rows with [1, 2, 1] / 4; the result is not shifted."""
  identity = np.eye(x.shape[-1] // f)
  kernel = np.array([1, 2, 1])[None, :, None, None] / 4 * identity
  taps = meeting_taps(3, f, shifts=(shift, 0))
  kernel = scatter(jnp.asarray(kernel, x.dtype), taps)
  return _convolve_rows(x, kernel, taps.padding)


def spread(maps: jax.Array, weight: jax.Array, f: int) -> jax.Array:
  """Multiply maps, (B, H, W / f, f), by each channel's weight, (C,)."""
  weight = weight[None, None, None]
  return _convolve_rows(maps, scatter(weight, meeting_taps(1, f)))


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


def _convolve_rows(
  x: jax.Array, kernel: jax.Array, padding: tuple[int, int] = (0, 0)
) -> jax.Array:
  """Convolve with a kernel of h rows and stride (h, 1), in full precision."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(kernel.shape[0], 1),
    padding=[(0, 0), padding],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products_of(x.dtype),
  )


def _pairs(width: int, dtype: jnp.dtype) -> jax.Array:
  """Return the kernel, (2, 1, C f, C f / 2), that adds 2x2 pixels."""
  pairs = np.kron(np.eye(width // 2), np.ones((2, 1)))
  return jnp.asarray(np.stack([pairs, pairs])[:, None], dtype)


class Taps(NamedTuple):
  """How a kernel acts on folded rows.

  Attributes:
    weights: (size, t, p, q): weight of tap k from pixel p of one of t
      neighboring positions to pixel q.
    padding: Positions of zeros to the left and to the right of a row.
  """

  weights: np.ndarray
  padding: tuple[int, int]


def meeting_taps(
  size: int,
  f: int,
  *,
  up: int = 1,
  down: int = 1,
  shifts: tuple[int, int] = (0, 0),
) -> Taps:
  """Return which pixels a kernel's taps connect, along a folded row.

  Args:
    size: Taps of the kernel, odd; zero padding.
    f: Fold where the kernel acts.
    up: The input is upsampled by this first; a divisor of f.
    down: The output is averaged over this many pixels; a divisor of f.
    shifts: Of the input, before upsampling, and of the output.

  Returns:
    Taps for as few positions as possible.
  """
  before, after = shifts
  weights = np.zeros((size, 3, f // up, f))
  for k in range(size):
    for q in range(f):
      pixel = (q - after + k - size // 2) // up + before
      block, p = divmod(pixel, f // up)
      weights[k, block + 1, p, q] = 1
  weights = weights.reshape(size, 3, f // up, f // down, down).mean(axis=-1)
  used = np.flatnonzero(weights.any(axis=(0, 2, 3)))
  first, last = used[0] - 1, used[-1] - 1
  # A shifted row has one position more.
  padding = int(-first), int(last + bool(after) - bool(before))
  return Taps(weights[:, first + 1 : last + 2], padding)


def scatter(kernel: jax.Array, taps: Taps) -> jax.Array:
  """Return the kernel that acts on folded rows.

  Args:
    kernel: (h, k, I, O).
    taps: Of the rows.

  Returns:
    (h, t, I p, O q).
  """
  h, size, i, o = kernel.shape
  _, t, p, q = taps.weights.shape
  # In float32, so that gradients of pixels are summed in it; as products and
  # sums, which are exact, unlike some matrix products.
  wide = kernel.astype(at_least_float32(kernel))
  weights = jnp.asarray(taps.weights, wide.dtype)
  terms = (
    wide[:, k, None, :, None, :, None] * weights[k][None, :, None, :, None, :]
    for k in range(size)
  )
  return sum(terms).astype(kernel.dtype).reshape(h, t, i * p, o * q)


def gather(kernel: jax.Array, taps: Taps) -> jax.Array:
  """Return the transpose of `scatter`, the gradient of the small kernel.

  Args:
    kernel: (h, t, I p, O q).
    taps: As in `scatter`.

  Returns:
    (h, k, I, O).
  """
  h, t, ip, oq = kernel.shape
  _, _, p, q = taps.weights.shape
  wide = kernel.astype(at_least_float32(kernel))
  wide = wide.reshape(h, t, ip // p, p, oq // q, q)
  gathered = [
    (wide * w[None, :, None, :, None, :]).sum(axis=(1, 3, 5))
    for w in jnp.asarray(taps.weights, wide.dtype)
  ]
  return jnp.stack(gathered, axis=1).astype(kernel.dtype)
