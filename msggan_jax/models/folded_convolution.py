"""Convolutions of folded rows, see `folded`.

As in `convolution`, the convolution and its weight gradient are a pair that
holds derivatives of any order. JAX derives the others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.models import folded
from msggan_jax.models.folded_kernels import gather, meeting_taps, scatter
from msggan_jax.models.precision import TRUE_FLOAT32, Products, products_of


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
    products: Precision of float32 on accelerators.
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
  x_bar = convolve(y_bar, _transposed(kernel), products, fold, shifts[::-1])
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
  gradient = _transposed(gradient) if swap else gradient
  return gather(gradient, taps)


def _correlate_forward(x, y, *options):
  return _correlate(x, y, *options), (x, y)


def _correlate_backward(size, products, fold, shifts, residuals, kernel_bar):
  del size
  x, y = residuals
  x_bar = convolve(y, _transposed(kernel_bar), products, fold, shifts[::-1])
  return x_bar, convolve(x, kernel_bar, products, fold, shifts)


convolve.defvjp(_convolve_forward, _convolve_backward)
_correlate.defvjp(_correlate_forward, _correlate_backward)


def _transposed(kernel: jax.Array) -> jax.Array:
  return kernel[::-1, ::-1].swapaxes(2, 3)


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
  taps = meeting_taps(3, fold, up=2, shifts=(0, shift))
  return _convolve(
    folded.refold(x, fold // 2),
    scatter(spread_rows(kernel), taps),
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
  taps = meeting_taps(3, folded.fold_of(x), down=2)
  return _convolve(
    x,
    scatter(spread_rows(kernel) / 2, taps),
    products,
    window_strides=(2, 1),
    padding=[(1, 1), taps.padding],
  )


def downsample(x: jax.Array) -> jax.Array:
  """Average 2x2 pixels of a folded array, as `pyramid.downsample` does.

  Args:
    x: (B, H, W / f, C f), f > 1.

  Returns:
    (B, H / 2, W / f, C f / 2): half the pixels, half the fold.
  """
  kernel = _pairs(x.shape[-1], x.dtype) / 4
  return _convolve_rows(x, kernel)


def upsample(x: jax.Array, f: int) -> jax.Array:
  """Upsample by nearest neighbour, as `pyramid.upsample` does.

  Args:
    x: (B, H, W / g, C g), of any fold g.
    f: Fold of the result, above 1.

  Returns:
    (B, 2 H, 2 W / f, C f).
  """
  x = folded.refold(x, f // 2)
  b, h, positions, width = x.shape
  kernel = _pairs(2 * width, x.dtype)[:1].swapaxes(2, 3)
  x = jnp.broadcast_to(x[:, :, None], (b, h, 2, positions, width))
  x = x.reshape(b, 2 * h, positions, width)
  return _convolve_rows(x, kernel)


def blur_rows(x: jax.Array, f: int, shift: int = 0) -> jax.Array:
  """Blur a folded array with [1, 2, 1] / 4 along its rows, zero-padded.

  Args:
    x: (B, H, positions, C f).
    f: Its fold, above 1.
    shift: Its shift.

  Returns:
    (B, H, W / f, C f), not shifted.
  """
  identity = np.eye(x.shape[-1] // f)
  kernel = np.array([1, 2, 1])[None, :, None, None] / 4 * identity
  taps = meeting_taps(3, f, shifts=(shift, 0))
  kernel = scatter(jnp.asarray(kernel, x.dtype), taps)
  return _convolve_rows(x, kernel, taps.padding)


def spread(maps: jax.Array, weight: jax.Array, f: int) -> jax.Array:
  """Multiply a map by each channel's weight.

  Args:
    maps: (B, H, W).
    weight: (C,), of the same dtype.
    f: Fold of the result.

  Returns:
    (B, H, W / f, C f).
  """
  maps = folded.refold(maps[..., None], f)
  weight = weight[None, None, None]
  if f == 1:
    return maps * weight
  return _convolve_rows(maps, scatter(weight, meeting_taps(1, f)))


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
