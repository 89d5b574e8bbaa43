"""Convolutions of folded rows, see `folded`; arrays are their data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import (
  TRUE_FLOAT32,
  at_least_float32,
  products_of,
)


def _convolve_once(x, kernel, products, fold, shifts):
  taps = meeting_taps(kernel.shape[1], fold, shifts=shifts)
  margin = kernel.shape[0] // 2
  padding = [(margin, margin), taps.padding]
  return plain.convolve(x, scatter(kernel, taps), products, padding)


def _correlate(x, y, size, products, fold, shifts):
  taps = meeting_taps(size, fold, shifts=shifts)
  padding = taps.padding
  # The TPU compiler reverses the features on the right if they have more
  # positions; here the gradient is reversed.
  swap = shifts[1] > shifts[0]
  if swap:
    x, y = y, x
    padding = tuple(taps.weights.shape[1] - 1 - pad for pad in padding)
  gradient = plain.correlate(x, y, products, [(size // 2, size // 2), padding])
  gradient = plain.transposed(gradient) if swap else gradient
  return gather(gradient, taps)


# (x, kernel, products, fold, shifts): convolves with zero padding, (B, H,
# positions, I f) to O f, k odd. The shifts are those of x and of the result,
# whose pixels outside the image are not zero if it is shifted. JAX's own
# derivative reverses the scattered kernel, and the TPU compiler then reverses
# features instead of the kernel's gradient.
convolve = plain.differentiable(
  _convolve_once,
  _correlate,
  lambda products, fold, shifts: (products, fold, shifts[::-1]),
)


def convolve_ones(
  kernel: jax.Array,
  height: int,
  positions: int,
  *,
  fold: int,
  shift: int = 0,
) -> jax.Array:
  """Convolve a channel of ones with a kernel, (3, 3, 1, O), zero-padded.

  Returns (1, H, positions, O f): equal everywhere but at the border, so that
  few rows and positions give all.
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


def convolve_rows(
  x: jax.Array, kernel: jax.Array, padding: tuple[int, int] = (0, 0)
) -> jax.Array:
  """Convolve with a kernel of h rows and stride (h, 1), in full precision."""
  return plain.convolve(
    x,
    kernel,
    products_of(x.dtype),
    [(0, 0), padding],
    strides=(kernel.shape[0], 1),
  )


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

  Of as few positions as possible.

  Args:
    size: Taps of the kernel, odd; zero padding.
    f: Fold where the kernel acts.
    up: The input is upsampled by this first; a divisor of f.
    down: The output is averaged over this many pixels; a divisor of f.
    shifts: Of the input, before upsampling, and of the output.
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
  """Return the kernel for folded rows: (h, k, I, O) to (h, t, I p, O q)."""
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
  """Return the transpose of `scatter`, the gradient of the small kernel."""
  h, t, ip, oq = kernel.shape
  _, _, p, q = taps.weights.shape
  wide = kernel.astype(at_least_float32(kernel))
  wide = wide.reshape(h, t, ip // p, p, oq // q, q)
  gathered = [
    (wide * w[None, :, None, :, None, :]).sum(axis=(1, 3, 5))
    for w in jnp.asarray(taps.weights, wide.dtype)
  ]
  return jnp.stack(gathered, axis=1).astype(kernel.dtype)
