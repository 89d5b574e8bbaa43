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

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.models.precision import products_of

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


def mean_square(x: jax.Array, f: int, dtype: jnp.dtype) -> jax.Array:
  """Average each pixel's squared channels.

  Args:
    x: (..., C f).
    f: Its fold.
    dtype: Of the result, float32 or float64.

  Returns:
    If folded, (..., C f), repeated for every channel: a product with a constant
    matrix, as TPUs do not sum every f-th lane. Else (..., 1).
  """
  if f == 1:
    return jnp.square(x.astype(dtype)).mean(axis=-1, keepdims=True)
  channels = x.shape[-1] // f
  ones = np.kron(np.ones((channels, channels)), np.eye(f))
  # Squares of bfloat16 are rounded to bfloat16, as their root will be.
  total = jnp.matmul(
    jnp.square(x),
    jnp.asarray(ones, x.dtype),
    precision=products_of(x.dtype),
    preferred_element_type=dtype,
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


class Taps(NamedTuple):
  """How a kernel acts on folded rows.

  Attributes:
    weights: (size, t, p, q): weight of tap k from pixel p of one of t
      neighbouring positions to pixel q.
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


def scatter(kernel: jax.Array, taps: np.ndarray) -> jax.Array:
  """Return the kernel that acts on folded rows.

  Args:
    kernel: (h, k, I, O).
    taps: (k, t, p, q), see `Taps`.

  Returns:
    (h, t, I p, O q).
  """
  h, size, i, o = kernel.shape
  _, t, p, q = taps.shape
  # In float32, so that gradients of pixels are summed in it; as products and
  # sums, which are exact, unlike some matrix products.
  wide = kernel.astype(
    kernel.dtype if kernel.dtype == jnp.float64 else jnp.float32
  )
  weights = jnp.asarray(taps, wide.dtype)
  terms = (
    wide[:, k, None, :, None, :, None] * weights[k][None, :, None, :, None, :]
    for k in range(size)
  )
  return sum(terms).reshape(h, t, i * p, o * q).astype(kernel.dtype)


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
  x = refold(x, f // 2)
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
  kernel = scatter(jnp.asarray(kernel, x.dtype), taps.weights)
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
  maps = refold(maps[..., None], f)
  weight = weight[None, None, None]
  if f == 1:
    return maps * weight
  return _convolve_rows(maps, scatter(weight, meeting_taps(1, f).weights))


def _pairs(width: int, dtype: jnp.dtype) -> jax.Array:
  """Return the kernel, (2, 1, C f, C f / 2), that adds 2x2 pixels."""
  pairs = np.kron(np.eye(width // 2), np.ones((2, 1)))
  return jnp.asarray(np.stack([pairs, pairs])[:, None], dtype)


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
