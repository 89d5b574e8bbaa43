"""The minibatch stddev of a folded discriminator, see `models/stddev.py`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import at_least_float32
from msggan_jax.kernels.tpu.folded import (
  Channels,
  Features,
  data_of,
  fold_of,
  made,
  overflows,
)

_SUBLANES = 8  # rows of a TPU's registers


@dataclasses.dataclass(frozen=True)
class Stddev:
  """A `MinibatchStddev` that takes `Features` and `Channels`.

  Attributes:
    layer: The plain layer.
    interleaved: Whether examples are in the order of `interleave`.
    on_gpus: Whether the statistic stays apart from features alone, and joins
      them where an image does.
  """

  layer: Any
  interleaved: bool = False
  on_gpus: bool = False

  def __call__(
    self, x: Features | Channels, batch_mean: Any
  ) -> Features | Channels:
    """Append the statistic as a channel."""
    few, x = (x.few, x.x) if isinstance(x, Channels) else (None, x)
    if self.layer.spatial and few is not None:
      few, x = None, join(Channels(few, x))
    apart = self.on_gpus or overflows(x, 1)
    if few is not None or (not self.layer.spatial and apart):
      parts = [x] if few is None else [few, x]
      channels = Channels(few, x, self._of_parts(parts, batch_mean))
      joins = self.on_gpus and few is not None
      return join(channels) if joins else channels
    f, data = fold_of(x), data_of(x)
    statistic = self.statistic(x, batch_mean)
    statistic = jnp.broadcast_to(statistic, (*data.shape[:3], f))
    return made(plain.concatenate(data, statistic.astype(data.dtype)), f)

  def _of_parts(self, parts: list, batch_mean: Any) -> jax.Array:
    """Return the statistic of concatenated channels, without joining them."""
    widths = [data_of(part).shape[-1] for part in parts]
    sums = [
      width * self.statistic(part, batch_mean)
      for part, width in zip(parts, widths, strict=True)
    ]
    return sum(sums) / sum(widths)

  def statistic(self, x: Features, batch_mean: Any) -> jax.Array:
    """Return what `MinibatchStddev.statistic` does, folded if spatial."""
    data, f = data_of(x), fold_of(x)
    if not self.interleaved:
      average = functools.partial(_of_pixels, f=f)
      average = average if self.layer.spatial and f > 1 else None
      return self.layer.statistic(data, batch_mean, average)
    b, h, w, c = data.shape
    size = min(self.layer.group, b)
    statistic = _mean_stddev(data.reshape(size, b // size, h, w, c))
    return jnp.tile(statistic, (size, 1, 1, 1))

  def interleave(self, x: jax.Array, inverse: bool = False) -> jax.Array:
    """Reorder examples: the first of each group, the second, and so on."""
    shape = (self.layer.group, -1) if inverse else (-1, self.layer.group)
    return x.reshape(*shape, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def _of_pixels(stddev: jax.Array, f: int) -> jax.Array:
  return stddev.reshape(*stddev.shape[:3], -1, f).mean(axis=3)


def of_batch(layer: Any, batch: int, on_gpus: bool = False) -> Stddev:
  """Return a layer's form for a batch, interleaved where that pays.

  Activations hold 8 examples in each of a TPU's registers. If as many groups
  fill them, members of a group are in different registers, and no array has to
  change its layout. On GPUs any number pays.
  """
  if layer.spatial or not layer.group or layer.grouping != "contiguous":
    return Stddev(layer, on_gpus=on_gpus)
  groups, rest = divmod(batch, layer.group)
  uneven = rest or (groups % _SUBLANES and not on_gpus)
  return Stddev(layer, not uneven, on_gpus)


def join(x: Features | Channels) -> Features:
  """Return the channels in one array."""
  if not isinstance(x, Channels):
    return x
  f, data = fold_of(x.x), data_of(x.x)
  if x.few is not None:
    data = plain.concatenate(data_of(x.few), data)
  if x.value is not None:
    value = jnp.broadcast_to(x.value, (*data.shape[:3], f))
    data = plain.concatenate(data, value.astype(data.dtype))
  return made(data, f)


# First and second derivative are one expression each, in the shape of x: no
# gradients of members are written, then joined.
@jax.custom_vjp
def _mean_stddev(x: jax.Array) -> jax.Array:
  """Map (members, groups, H, W, C) to mean deviations, (groups, 1, 1, 1)."""
  _, variance = plain.moments(list(x))
  stddev = jnp.sqrt(variance + plain.STDDEV_EPSILON)
  return stddev.mean(axis=(1, 2, 3), keepdims=True)


@jax.custom_vjp
def _mean_stddev_gradient(x: jax.Array, y_bar: jax.Array) -> jax.Array:
  """Return the gradient of `_mean_stddev`, in the dtype of x."""
  mean, inverse = _mean_and_inverse(x)
  deviation = x.astype(mean.dtype) - mean
  return (deviation * (inverse * _share(x, y_bar))).astype(x.dtype)


def _mean_stddev_gradient_backward(residuals, cotangent):
  x, y_bar = residuals
  mean, inverse = _mean_and_inverse(x)
  cotangents = _members(cotangent)
  mean_cotangent = sum(cotangents) / len(x)
  pairs = zip(_members(x), cotangents, strict=True)
  covariance = sum((x_i - mean) * c_i for x_i, c_i in pairs) / len(x)
  of_y = (covariance * inverse)[0].mean(axis=(1, 2, 3), keepdims=True)
  slope = covariance * jnp.square(inverse)
  mean_cotangent, slope = _rounded(x.dtype, mean_cotangent, slope)
  x_bar = cotangent.astype(mean.dtype) - mean_cotangent
  x_bar -= (x.astype(mean.dtype) - mean) * slope
  x_bar *= inverse * _share(x, y_bar)
  return x_bar.astype(x.dtype), of_y.astype(y_bar.dtype)


_mean_stddev.defvjp(
  lambda x: (_mean_stddev(x), x),
  lambda x, y_bar: (_mean_stddev_gradient(x, y_bar),),
)
_mean_stddev_gradient.defvjp(
  lambda x, y_bar: (_mean_stddev_gradient(x, y_bar), (x, y_bar)),
  _mean_stddev_gradient_backward,
)


def _members(x: jax.Array) -> list[jax.Array]:
  # Slices of arrays in memory are fused, those of results are not.
  return [x[i : i + 1].astype(at_least_float32(x)) for i in range(len(x))]


def _mean_and_inverse(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return mean and 1 / stddev over the first axis, (1, groups, H, W, C)."""
  mean, variance = plain.moments(_members(x))
  return _rounded(x.dtype, mean, jax.lax.rsqrt(variance + plain.STDDEV_EPSILON))


def _rounded(dtype: jnp.dtype, *arrays: jax.Array) -> list[jax.Array]:
  """Round as x is rounded; return float32 or float64 again.

  These arrays are written, then read for each member.
  """
  rounded = jax.lax.optimization_barrier([a.astype(dtype) for a in arrays])
  return [a.astype(b.dtype) for a, b in zip(rounded, arrays, strict=True)]


def _share(x: jax.Array, y_bar: jax.Array) -> jax.Array:
  return y_bar[None] / x[:, 0].size
