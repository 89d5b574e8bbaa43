"""The operations of folded networks; a narrow level is `Folded`.

Each equals the plain operation of its name in `kernels/__init__.py`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels import by_platform, plain
from msggan_jax.kernels.precision import (
  Products,
  at_least_float32,
  products_of,
)
from msggan_jax.kernels.tpu import convolution, stddev
from msggan_jax.kernels.tpu.convolution import (
  convolve_rows,
  meeting_taps,
  scatter,
)
from msggan_jax.kernels.tpu.folded import (
  Channels,
  Features,
  Folded,
  best_fold,
  data_of,
  fold_of,
  made,
  overflows,
  refold,
  repeated,
  without_outside,
)
from msggan_jax.kernels.tpu.stddev import join
from msggan_jax.kernels.tpu.unfolded import convolve_narrow, spread_rows


def fit(x: Features, width: int) -> Features:
  """Fold x as is best for layers of `width` channels."""
  return refold(x, best_fold(x.shape[2], width))


def convolve(
  x: Features | Channels,
  kernel: jax.Array,
  bias: jax.Array | None,
  products: Products,
  before_window: bool = False,
) -> Features:
  """Convolve and add a bias; shift the result if a 3x3 window reads it."""
  if isinstance(x, Channels):
    if kernel.shape[0] == 3:
      return _convolve_apart(x, kernel, bias, products, before_window)
    x = join(x)
  return add_bias(_convolve(x, kernel, products, before_window), bias)


def _convolve(x: Features, kernel, products, before_window: bool) -> Features:
  if not isinstance(x, Folded):
    return by_platform.convolve(x, kernel, products)
  shifts = (x.shift, int(before_window))
  data = convolution.convolve(x.data, kernel, products, x.fold, shifts)
  return Folded(data, x.fold, shifts[1])


def _convolve_apart(
  channels: Channels, kernel, bias, products, before_window: bool
) -> Features:
  """Convolve the parts of the channels, with as many parts of the kernel.

  The convolution of the constant channel is the value times that of ones.
  """
  few, x, value = channels
  f, c = fold_of(x), x.shape[-1]
  first = kernel.shape[2] - c - (value is not None)
  of_few, of_x, of_value = jnp.split(kernel, [first, first + c], axis=2)
  y = _convolve(x, of_x, products, before_window)
  data, shift = data_of(y), y.shift if isinstance(y, Folded) else 0
  if few is not None:
    if f == 1:
      data += convolve_narrow(few, of_few, products)
    else:
      data += data_of(_convolve(few, of_few, products, before_window))
  if value is None:
    return add_bias(made(data, f, shift), bias)
  # As the bias' gradient, those of the value and the kernel are long sums.
  wide = data.astype(at_least_float32(data))
  ones = convolution.convolve_ones(
    of_value.astype(wide.dtype), *data_of(x).shape[1:3], fold=f, shift=shift
  )
  return add_bias(made(wide + value * ones, f, shift), bias).astype(data.dtype)


def upsample_convolve(
  x: Features, kernel: jax.Array, bias: jax.Array | None, products: Products
) -> Features:
  """Upsample, convolve and add a bias; the result is shifted if folded.

  Doubled rows are dilated rows, which meet two of four kernel rows. Doubled
  pixels of a row share their taps, so a position of the result depends on three
  positions of x, on two if shifted.
  """
  f = best_fold(2 * x.shape[2], kernel.shape[-1])
  if f == 1:
    y = by_platform.upsample_convolve(to_array(x), kernel, products)
    return plain.add_bias(y, bias)
  taps = meeting_taps(3, f, up=2, shifts=(0, 1))
  data = plain.convolve(
    data_of(x, f // 2),
    scatter(spread_rows(kernel), taps),
    products,
    [(2, 2), taps.padding],
    dilation=(2, 1),
  )
  return add_bias(Folded(data, f, 1), bias)


def convolve_downsample(
  x: Features, kernel: jax.Array, bias: jax.Array | None, products: Products
) -> Features:
  """Convolve, downsample and add a bias; the fold is halved."""
  f = fold_of(x)
  if f == 1:
    y = by_platform.convolve_downsample(x, kernel, products)
    return plain.add_bias(y, bias)
  taps = meeting_taps(3, f, down=2)
  data = plain.convolve(
    x.data,
    scatter(spread_rows(kernel) / 2, taps),
    products,
    [(1, 1), taps.padding],
    strides=(2, 1),
  )
  return add_bias(made(data, f // 2), bias)


def add_bias(y: Features, bias: jax.Array | None) -> Features:
  """Add a bias, and keep what is outside the image zero."""
  if not isinstance(y, Folded):
    return plain.add_bias(y, bias)
  if bias is not None:
    bias = repeated(bias, y.fold)
  return without_outside(y.replace(data=plain.add_bias(y.data, bias)))


def upsample(x: Features, factor: int = 2, fold: int | None = None) -> Features:
  """Upsample; None: to the best fold for x's channels."""
  if fold is None:
    fold = best_fold(factor * x.shape[2], x.shape[-1])
  if fold == 1:
    return by_platform.upsample(to_array(x), factor)
  if factor > 2:
    x = upsample(x, factor // 2, fold // 2)
  data = data_of(x, fold // 2)
  b, h, positions, width = data.shape
  kernel = _pairs(2 * width, data.dtype)[:1].swapaxes(2, 3)
  data = jnp.broadcast_to(data[:, :, None], (b, h, 2, positions, width))
  data = data.reshape(b, 2 * h, positions, width)
  return Folded(convolve_rows(data, kernel), fold)


def upsample_like(x: Features, like: Features) -> Features:
  """Upsample to the size and the fold of another array."""
  return upsample(x, like.shape[1] // x.shape[1], fold_of(like))


def downsample(x: Features, factor: int = 2) -> Features:
  """Downsample; the fold shrinks by the same factor, down to 1."""
  while factor > 1 and isinstance(x, Folded):
    kernel = _pairs(x.data.shape[-1], x.dtype) / 4
    x = made(convolve_rows(x.data, kernel), x.fold // 2)
    factor //= 2
  return by_platform.downsample(x, factor)


def _pairs(width: int, dtype: jnp.dtype) -> jax.Array:
  """Return the kernel, (2, 1, C f, C f / 2), that adds 2x2 pixels."""
  pairs = np.kron(np.eye(width // 2), np.ones((2, 1)))
  return jnp.asarray(np.stack([pairs, pairs])[:, None], dtype)


def to_array(x: Features) -> jax.Array:
  """Unfold."""
  return data_of(x, 1)


def like(x: Features, y: Features) -> Features:
  """Return x with the fold of y."""
  return refold(x, fold_of(y))


def per_channel(values: jax.Array, like: Features) -> jax.Array:
  """Return values, (C,) or (B, C), to broadcast with features."""
  values = repeated(values, fold_of(like))
  return values[:, None, None] if values.ndim > 1 else values[None, None, None]


def weighted_noise(maps: jax.Array, weight: jax.Array, like: Folded) -> Folded:
  """Multiply maps, (B, H, W), by each channel's weight."""
  f = like.fold
  maps = data_of(maps[..., None], f)
  kernel = scatter(weight[None, None, None], meeting_taps(1, f))
  return Folded(convolve_rows(maps, kernel), f)


def instance_norm(x: Folded) -> Folded:
  """Normalize each channel of each image."""

  def image_mean(data: jax.Array) -> jax.Array:
    mean = data.mean(axis=(1, 2), keepdims=True)
    mean = mean.reshape(*mean.shape[:-1], -1, x.fold).mean(axis=-1)
    return repeated(mean, x.fold)

  return x.replace(data=plain.instance_norm(x.data, image_mean))


def blur(x: Folded) -> Folded:
  """Blur; the result is not shifted."""
  blurred = plain.blur_along(1, x.data)
  kernel = np.array([1, 2, 1])[None, :, None, None] / 4 * np.eye(x.shape[-1])
  taps = meeting_taps(3, x.fold, shifts=(x.shift, 0))
  kernel = scatter(jnp.asarray(kernel, x.dtype), taps)
  return Folded(convolve_rows(blurred, kernel, taps.padding), x.fold)


def concatenate(first: Features, x: Features) -> Features:
  """Concatenate the channels of two arrays of one fold."""
  return made(plain.concatenate(data_of(first), data_of(x)), fold_of(x))


def prepend(image: Features, x: Features) -> Features | Channels:
  """Put an image's channels before x, in the dtype of x.

  They stay apart if TPUs would pad them to 128 more.
  """
  image = like(image, x)
  if not overflows(x, image.shape[-1]):
    return concatenate(image, x)
  return Channels(image.astype(x.dtype), x)


def enter(pyramid: tuple, layer: Any, on_gpus: bool = False) -> tuple:
  """Order the examples as suits the stddev layer, if there is one."""
  form = None
  if layer is not None:
    form = stddev.of_batch(layer, pyramid[0].shape[0], on_gpus)
  if form is None or not form.interleaved:
    return pyramid, form, lambda scores: scores
  leave = functools.partial(form.interleave, inverse=True)
  return jax.tree.map(form.interleave, pyramid), form, leave


def leaky_relu_and_pixel_norm(x: Folded) -> Folded:
  """Apply a leaky ReLU, then normalize each pixel's features to unit RMS."""
  return x.replace(data=_activate_and_normalize(x.data, x.fold))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _activate_and_normalize(x: jax.Array, f: int) -> jax.Array:
  """The derivative reads the result, which has the signs of x, instead of x."""
  return _normalize_forward(x, f)[0]


def _normalize_forward(x, f):
  x = plain.leaky_relu(x)
  mean = _channel_mean(jnp.square(x), f)
  scale = jax.lax.rsqrt(mean + plain.NORM_EPSILON)
  wide = x.astype(scale.dtype)
  # Results in x's dtype, once: the TPU compiler would keep a scale of float32
  # and multiply in each reader.
  y, scale = jax.lax.optimization_barrier(
    ((wide * scale).astype(x.dtype), scale.astype(x.dtype))
  )
  return y, (y, scale)


def _normalize_backward(f, residuals, y_bar):
  y, scale = residuals
  dtype = at_least_float32(y)
  mean = _channel_mean(y * y_bar, f)
  change = y_bar.astype(dtype) - y.astype(dtype) * mean
  slope = jnp.asarray(plain.LRELU_SLOPE, dtype)
  slopes = jnp.where(y >= 0, jnp.ones((), dtype), slope)
  return ((change * scale.astype(dtype) * slopes).astype(y.dtype),)


_activate_and_normalize.defvjp(_normalize_forward, _normalize_backward)


def _channel_mean(x: jax.Array, f: int) -> jax.Array:
  """Average each pixel's channels, (..., C f), repeated for every channel.

  A product with a constant matrix, as TPUs do not sum every f-th lane. Sums are
  float32 or float64; terms of bfloat16 stay rounded to it.
  """
  channels = x.shape[-1] // f
  ones = np.kron(np.ones((channels, channels)), np.eye(f))
  total = jnp.matmul(
    x,
    jnp.asarray(ones, x.dtype),
    precision=products_of(x.dtype),
    preferred_element_type=at_least_float32(x),
  )
  return total / channels
