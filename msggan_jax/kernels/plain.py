"""The plain form of every operation, on arrays of (B, H, W, C).

It is the reference of all other forms, and the only one in exported files.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from msggan_jax.kernels.precision import (
  TRUE_FLOAT32,
  Products,
  at_least_float32,
)

Padding = str | Sequence[tuple[int, int]]

LRELU_SLOPE = 0.2
NORM_EPSILON = 1e-8
STDDEV_EPSILON = 1e-8


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  products: Products = TRUE_FLOAT32,
  padding: Padding = "SAME",
  *,
  strides: tuple[int, int] = (1, 1),
  dilation: tuple[int, int] = (1, 1),
) -> jax.Array:
  """Convolve x, (B, H, W, I), with a kernel, (k, k, I, O).

  `products` is the precision of float32 on accelerators, here and below.
  `dilation` puts zeros between the pixels of x.
  """
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=strides,
    padding=padding,
    lhs_dilation=dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products,
  )


def correlate(
  x: jax.Array, y: jax.Array, products: Products, padding: Padding
) -> jax.Array:
  """Return the weight gradient of `convolve`, (k, k, I, O), k odd.

  At (i, j) it is the sum over B, H, W of y, the cotangent, times x, shifted by
  (i, j) minus the kernel's center.
  """
  return jax.lax.conv_general_dilated(
    x,
    y,
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=("CHWN", "IHWO", "HWNC"),
    precision=products,
  )


def differentiable(
  convolve: Callable,
  correlate: Callable,
  reverse: Callable = lambda *options: options,
) -> Callable:
  """Return a convolution that has derivatives of any order.

  The convolution and its weight gradient are bilinear, and each is a derivative
  of the other, so the derivatives stay within the pair.

  Args:
    convolve: (x, kernel, *options) -> y, k odd, zero padding.
    correlate: (x, y, k, *options) -> the gradient of the kernel.
    reverse: options -> those of the convolution from y to x.
  """

  @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
  def conv(x, kernel, options):
    return convolve(x, kernel, *options)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
  def corr(x, y, size, options):
    return correlate(x, y, size, *options)

  def conv_backward(options, residuals, y_bar):
    x, kernel = residuals
    x_bar = conv(y_bar, transposed(kernel), reverse(*options))
    return x_bar, corr(x, y_bar, kernel.shape[0], options)

  def corr_backward(size, options, residuals, kernel_bar):
    del size
    x, y = residuals
    x_bar = conv(y, transposed(kernel_bar), reverse(*options))
    return x_bar, conv(x, kernel_bar, options)

  conv.defvjp(lambda x, k, *o: (conv(x, k, *o), (x, k)), conv_backward)
  corr.defvjp(lambda x, y, *o: (corr(x, y, *o), (x, y)), corr_backward)
  return lambda x, kernel, *options: conv(x, kernel, options)


def transposed(kernel: jax.Array) -> jax.Array:
  """Return the kernel of the transposed convolution (k odd, zero padding)."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def upsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Upsample by nearest neighbor (paper, Table 6)."""
  b, h, w, c = x.shape
  # (B, H, W, C) -> (B, H, f, W, f, C) -> (B, H f, W f, C)
  x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
  return x.reshape(b, h * factor, w * factor, c)


def downsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Average squares of `factor` pixels (paper, Table 7).

  On CPUs, sums of strided slices are several times faster than a mean over
  middle axes.
  """
  x = sum(x[:, i::factor] for i in range(factor))
  x = sum(x[:, :, j::factor] for j in range(factor))
  return x / factor**2


def upsample_convolve(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Upsample, then convolve: (B, H, W, I) to (B, 2 H, 2 W, O)."""
  return convolve(upsample(x), kernel, products)


def convolve_downsample(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Convolve, then downsample: (B, 2 H, 2 W, I) to (B, H, W, O)."""
  return downsample(convolve(x, kernel, products))


def add_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
  """Add a bias, (C,), if any, to y, (..., C).

  Its gradient is a sum over all pixels, too long for bfloat16. XLA fuses the
  casts, so that y stays bfloat16 in memory.
  """
  if bias is None:
    return y
  y32 = y.astype(at_least_float32(y))
  return (y32 + jnp.expand_dims(bias, range(y.ndim - 1))).astype(y.dtype)


def weighted_noise(
  maps: jax.Array, weight: jax.Array, like: jax.Array
) -> jax.Array:
  """Multiply maps, (B, H, W), by each channel's weight (StyleGAN, fig. 1b)."""
  del like
  return maps[..., None] * weight[None, None, None]


def leaky_relu(x: jax.Array) -> jax.Array:
  """Apply a leaky ReLU of slope 0.2 (paper, Tables 6 and 7)."""
  return jax.nn.leaky_relu(x, LRELU_SLOPE)


def pixel_norm(x: jax.Array) -> jax.Array:
  """Normalize each pixel's features to unit RMS (ProGAN, section 4.2).

  Returns x / sqrt(mean over C of x^2 + 1e-8), of x's shape and dtype.
  """
  x32 = x.astype(at_least_float32(x))
  mean_square = jnp.square(x32).mean(axis=-1, keepdims=True)
  return (x32 * jax.lax.rsqrt(mean_square + NORM_EPSILON)).astype(x.dtype)


def leaky_relu_and_pixel_norm(x: jax.Array) -> jax.Array:
  """Apply both, as after each convolution of Table 6."""
  return pixel_norm(leaky_relu(x))


def _image_mean(x: jax.Array) -> jax.Array:
  return x.mean(axis=(1, 2), keepdims=True)


def instance_norm(
  x: jax.Array, image_mean: Callable[[jax.Array], jax.Array] = _image_mean
) -> jax.Array:
  """Normalize each channel of each image (StyleGAN, eq. 1).

  Returns (x - mean) / sqrt(variance + 1e-8) over H and W, of x's shape and
  dtype.
  """
  x32 = x.astype(at_least_float32(x))
  x32 -= image_mean(x32)
  variance = image_mean(jnp.square(x32))
  return (x32 * jax.lax.rsqrt(variance + NORM_EPSILON)).astype(x.dtype)


def blur(x: jax.Array) -> jax.Array:
  """Blur with [1, 2, 1] / 4 along H and W, zero-padded (StyleGAN, app. C).

  As sums of shifted images, derivatives of any order are cheap.
  """
  return blur_along(2, blur_along(1, x))


def blur_along(axis: int, x: jax.Array) -> jax.Array:
  """Blur along one axis, as `blur` does."""
  size = x.shape[axis]
  x = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)])

  def part(first: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, first, first + size, axis=axis)

  return (part(0) + 2 * part(1) + part(2)) / 4


def concatenate(first: jax.Array, x: jax.Array) -> jax.Array:
  """Concatenate channels, in the dtype of x."""
  return jnp.concatenate([first.astype(x.dtype), x], axis=-1)


def moments(members: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Return mean and biased variance over arrays, in float32 or float64."""
  # Cast one by one, so that their gradients join in the members' dtype.
  members = [member.astype(at_least_float32(member)) for member in members]
  mean = sum(members) / len(members)
  squares = (jnp.square(member - mean) for member in members)
  return mean, sum(squares) / len(members)
