"""Folded rows: narrow levels with f pixels of a row in the channels.

TPUs pad an array's channels to 128. At 1024x1024 a layer has 16, so seven of
eight bytes are padding. A folded array holds the f pixels of a part of a row in
the channels of one position:

  (B, H, W, C)  ->  (B, H, W / f, C f), pixel p of channel c at c f + p.

Channels come first, so concatenating folded arrays folds their concatenation.
Images are square, so an array shows its fold: f = H / (W / f). Convolutions
stay convolutions, with a larger kernel (`scatter`), built inside the step:
parameters keep their form. Each operation's plain form is its reference.

Between the two convolutions of a block, features are shifted by a pixel:
position X holds pixels f X - 1 to f X + f - 2, and there are W / f + 1 of them;
pixels outside the image are zero. The f + 2 pixels that f outputs of a 3x3
convolution depend on then lie in two positions, without a shift in three, so
the products are a third fewer.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.models.precision import at_least_float32, products_of

LANES = 128  # of a TPU's registers and of its matrix unit
_SMALLEST = 8  # resolution: the blocks at 4x4 are dense layers


def best_fold(resolution: int, channels: int, folding: bool = True) -> int:
  """Return how many pixels of a row fill the lanes of a TPU.

  Args:
    resolution: H and W of the level.
    channels: C of the level.
    folding: Whether the network is folded at all.

  Returns:
    The largest power of two f with C f <= 128, at most half a row; 1: plain.
  """
  if not folding or resolution < _SMALLEST:
    return 1
  f = 1
  while 2 * f * channels <= LANES and 4 * f <= resolution:
    f *= 2
  return f


def fold_of(x: jax.Array) -> int:
  """Return f of features or images, folded or not; 1 for other arrays."""
  return max(1, x.shape[1] // x.shape[2]) if x.ndim == 4 else 1


def refold(x: jax.Array, f: int) -> jax.Array:
  """Return x with f pixels of a row in the channels.

  Args:
    x: (B, H, W / g, C g), of any fold g.
    f: A divisor of W; 1: unfold.

  Returns:
    (B, H, W / f, C f); x itself if its fold is f.
  """
  g = fold_of(x)
  if f == g:
    return x
  b, h, positions, width = x.shape
  channels, row = width // g, positions * g
  # The pixels of a row, from (position, channel, pixel) to the same order.
  x = x.reshape(b, h, positions, channels, g).swapaxes(3, 4)
  x = x.reshape(b, h, row // f, f, channels).swapaxes(3, 4)
  return x.reshape(b, h, row // f, channels * f)


def fold_like(x: jax.Array, y: jax.Array) -> jax.Array:
  """Return x with the fold of y."""
  return refold(x, fold_of(y))


def per_channel(values: jax.Array, f: int) -> jax.Array:
  """Repeat a value of each channel for its f pixels: (..., C) to (..., C f)."""
  if f == 1:
    return values
  repeated = jnp.broadcast_to(values[..., None], (*values.shape, f))
  return repeated.reshape(*values.shape[:-1], -1)


def pixel_mean(x: jax.Array, f: int) -> jax.Array:
  """Average the f pixels of each channel: (..., C f) to (..., C)."""
  return x.reshape(*x.shape[:-1], -1, f).mean(axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def activate_and_normalize(
  x: jax.Array, f: int, slope: float, epsilon: float
) -> jax.Array:
  """Apply a leaky ReLU, then normalize each pixel's features to unit RMS.

  The derivative reads the result, which has the signs of x, instead of x.

  Args:
    x: (..., C f).
    f: Its fold.
    slope: Of the leaky ReLU.
    epsilon: Added to the mean squares.

  Returns:
    Same shape and dtype.
  """
  return _normalize_forward(x, f, slope, epsilon)[0]


def _normalize_forward(x, f, slope, epsilon):
  x = jax.nn.leaky_relu(x, slope)
  scale = jax.lax.rsqrt(_channel_mean(jnp.square(x), f) + epsilon)
  wide = x.astype(scale.dtype)
  # Results in x's dtype, once: the TPU compiler would keep a scale of float32
  # and multiply in each reader.
  y, scale = jax.lax.optimization_barrier(
    ((wide * scale).astype(x.dtype), scale.astype(x.dtype))
  )
  return y, (y, scale)


def _normalize_backward(f, slope, epsilon, residuals, y_bar):
  del epsilon
  y, scale = residuals
  dtype = at_least_float32(y)
  mean = _channel_mean(y * y_bar, f)
  change = y_bar.astype(dtype) - y.astype(dtype) * mean
  slopes = jnp.where(y >= 0, jnp.ones((), dtype), jnp.asarray(slope, dtype))
  return ((change * scale.astype(dtype) * slopes).astype(y.dtype),)


activate_and_normalize.defvjp(_normalize_forward, _normalize_backward)


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


def shift_of(f: int) -> int:
  """Return the shift between the convolutions of a block; 0 if plain."""
  return 1 if f > 1 else 0


def without_outside(x: jax.Array, f: int) -> jax.Array:
  """Set the pixels outside the image to zero.

  Args:
    x: (B, H, W / f + 1, C f), shifted by one pixel.
    f: Its fold.
  """
  _, _, positions, width = x.shape
  pixel = f * np.arange(positions)[:, None] + np.arange(width) % f - 1
  inside = (pixel >= 0) & (pixel < f * (positions - 1))
  return jnp.where(inside[None, None], x, jnp.zeros((), x.dtype))
