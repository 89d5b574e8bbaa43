"""Kernels of folded rows, see `folded`: scattered, their gradients gathered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.models.precision import at_least_float32


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
