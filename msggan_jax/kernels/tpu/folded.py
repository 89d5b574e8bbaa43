"""Folded rows: narrow levels with f pixels of a row in the channels.

TPUs pad an array's channels to 128. At 1024x1024 a layer has 16, so seven of
eight bytes are padding. A folded array holds the f pixels of a part of a row in
the channels of one position:

  (B, H, W, C)  ->  (B, H, W / f, C f), pixel p of channel c at c f + p.

Channels come first, so concatenating folded arrays folds their concatenation.
Convolutions stay convolutions, with a larger kernel, built inside the step:
parameters keep their form.

Between the two convolutions of a block, features are shifted by a pixel:
position X holds pixels f X - 1 to f X + f - 2, and there are W / f + 1 of them;
pixels outside the image are zero. The f + 2 pixels that f results of a 3x3
convolution depend on then lie in two positions, without a shift in three, so
the products are a third fewer.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

LANES = 128  # of a TPU's registers and of its matrix unit
_SMALLEST = 8  # pixels of a row: the blocks at 4x4 are dense layers


@struct.dataclass
class Folded:
  """Features or images with f pixels of a row in the channels.

  Attributes:
    data: (B, H, positions, C f).
    fold: f, above 1.
    shift: 1 if shifted by a pixel, else 0.
  """

  data: jax.Array
  fold: int = struct.field(pytree_node=False)
  shift: int = struct.field(pytree_node=False, default=0)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Return (B, H, W, C)."""
    b, h, positions, width = self.data.shape
    return b, h, (positions - self.shift) * self.fold, width // self.fold

  @property
  def dtype(self) -> jnp.dtype:
    """Return that of the data."""
    return self.data.dtype

  def astype(self, dtype: Any) -> "Folded":
    """Return a copy of another dtype."""
    return self.replace(data=self.data.astype(dtype))

  def __add__(self, other: Any) -> "Folded":
    """Add features of the same form, or what broadcasts with the data."""
    return self.replace(data=self.data + data_of(other))

  def __mul__(self, other: Any) -> "Folded":
    """Multiply, as `__add__` adds."""
    return self.replace(data=self.data * data_of(other))


Features = jax.Array | Folded


class Channels(NamedTuple):
  """Channels side by side, so that x needs no more lanes than it fills.

  Attributes:
    few: An image's channels, in the form of x; None: none.
    x: Features.
    value: A channel that is constant, (B, 1, 1, 1); None: none.
  """

  few: Features | None
  x: Features
  value: jax.Array | None = None

  def astype(self, dtype: Any) -> "Channels":
    """Cast what varies over pixels."""
    few = None if self.few is None else self.few.astype(dtype)
    return Channels(few, self.x.astype(dtype), self.value)


def best_fold(row: int, channels: int) -> int:
  """Return how many pixels of a row fill the lanes of a TPU.

  The largest power of two f with C f <= 128 that divides the row's length, at
  most half of it; 1: plain.
  """
  f = 1
  while (
    2 * f * channels <= LANES
    and max(_SMALLEST, 4 * f) <= row
    and row % (2 * f) == 0
  ):
    f *= 2
  return f


def fold_of(x: Features) -> int:
  """Return f; 1 for a plain array."""
  return x.fold if isinstance(x, Folded) else 1


def data_of(x: Features, f: int | None = None) -> jax.Array:
  """Return x as an array, with f pixels in the channels; None: as it is.

  Args:
    x: (B, H, W, C), not shifted unless its fold is f.
    f: A divisor of W.
  """
  g, data = fold_of(x), x.data if isinstance(x, Folded) else x
  if f in (None, g):
    return data
  b, h, positions, width = data.shape
  channels, row = width // g, positions * g
  # The pixels of a row, from (position, channel, pixel) to the same order.
  data = data.reshape(b, h, positions, channels, g).swapaxes(3, 4)
  data = data.reshape(b, h, row // f, f, channels).swapaxes(3, 4)
  return data.reshape(b, h, row // f, channels * f)


def made(data: jax.Array, f: int, shift: int = 0) -> Features:
  """Return the features that an array holds."""
  return data if f == 1 else Folded(data, f, shift)


def refold(x: Features, f: int) -> Features:
  """Return x with fold f."""
  return x if f == fold_of(x) else made(data_of(x, f), f)


def repeated(values: jax.Array, f: int) -> jax.Array:
  """Repeat a value of each channel for its f pixels: (..., C) to (..., C f)."""
  if f == 1:
    return values
  values = jnp.broadcast_to(values[..., None], (*values.shape, f))
  return values.reshape(*values.shape[:-2], -1)


def without_outside(x: Folded) -> Folded:
  """Set the pixels outside the image to zero if x is shifted."""
  if not x.shift:
    return x
  f, (_, _, positions, width) = x.fold, x.data.shape
  pixel = f * np.arange(positions)[:, None] + np.arange(width) % f - 1
  inside = (pixel >= 0) & (pixel < f * (positions - 1))
  zero = jnp.zeros((), x.dtype)
  return x.replace(data=jnp.where(inside[None, None], x.data, zero))


def overflows(x: Features, more: int) -> bool:
  """Return whether more channels beside x need more of a TPU's vectors."""
  channels, f = x.shape[-1], fold_of(x)
  return -(-(channels + more) * f // LANES) > -(-channels * f // LANES)
