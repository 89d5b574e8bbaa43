"""Minibatch standard deviation: D sees how much a batch varies.

ProGAN, section 3. The paper has it in every block (section 3.1, Table 7). The
authors' earlier code has it only in the last block, over the whole batch.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.models.folded import fold_of
from msggan_jax.models.layers import at_least_float32

STDDEV_EPSILON = 1e-8
_SUBLANES = 8  # rows of a TPU's registers
GROUPINGS = ("contiguous", "strided")
PLACEMENTS = ("every_block", "last_block", "none")

BatchMean = Callable[[jax.Array], jax.Array]  # (B, ...) -> (1, ...)


def batch_mean(x: jax.Array) -> jax.Array:
  """Average over the first axis; keep the axis, with length 1."""
  return x.mean(axis=0, keepdims=True)


def examples_together(config: ConfigDict) -> int:
  """Return how many examples share a minibatch stddev: 1 without one.

  Returns:
    `stddev_group`; 0: the whole batch.
  """
  return 1 if config.stddev_placement == "none" else config.stddev_group


@dataclasses.dataclass(frozen=True)
class MinibatchStddev:
  """The minibatch stddev layer (ProGAN, section 3).

  Attributes:
    group: Examples per group, at most B; 0: the whole global batch.
    grouping: "contiguous": neighbours form a group, which never crosses
      devices. "strided": examples i, i + B/g, i + 2B/g, ... do, as in the
      official TensorFlow code. "interleaved", of D alone: "strided", with
      derivatives that are fast on TPUs.
    spatial: Whether to average over channels only, so that the statistic
      varies over H and W (msg-gan-v1).
  """

  group: int = 4
  grouping: str = "contiguous"
  spatial: bool = False

  def __call__(
    self, x: jax.Array, batch_mean: BatchMean = batch_mean
  ) -> jax.Array:
    """Append the statistic as a channel.

    Args:
      x: Activations, (B, H, W, C), of any fold.
      batch_mean: Mean over the global batch, for group 0. With several
        devices it must cross them.

    Returns:
      (B, H, W, C + 1).

    Raises:
      ValueError: If the group size does not divide B.
    """
    statistic = self.statistic(x, batch_mean)
    statistic = jnp.broadcast_to(statistic, (*x.shape[:3], fold_of(x)))
    return jnp.concatenate([x, statistic.astype(x.dtype)], axis=-1)

  def interleaved(self, batch: int) -> "MinibatchStddev | None":
    """Return this layer for a batch in the order of `interleave`.

    Activations hold 8 examples in each of a TPU's registers. If as many groups
    fill them, members of a group are in different registers, and no array has
    to change its layout.

    Args:
      batch: B.

    Returns:
      None if the order does not pay, or groups are not contiguous.
    """
    contiguous = self.group and self.grouping == "contiguous"
    groups = batch // min(self.group, batch) if contiguous else 1
    if self.spatial or batch % groups or groups % _SUBLANES:
      return None
    return dataclasses.replace(self, grouping="interleaved")

  def interleave(self, x: jax.Array, inverse: bool = False) -> jax.Array:
    """Reorder examples: the first of each group, the second, and so on.

    Args:
      x: (B, ...), of contiguous groups.
      inverse: Whether to undo it.
    """
    shape = (-1, self.group) if not inverse else (self.group, -1)
    return x.reshape(*shape, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

  def of_parts(
    self, parts: Sequence[jax.Array], batch_mean: BatchMean = batch_mean
  ) -> jax.Array:
    """Return the statistic of concatenated channels, without joining them.

    Args:
      parts: Channels, each (B, H, W, C), of any equal fold.
      batch_mean: As in `__call__`.

    Returns:
      (B or 1, 1, 1, 1), float32 or float64.
    """
    widths = [part.shape[-1] for part in parts]
    sums = [
      width * self.statistic(part, batch_mean)
      for part, width in zip(parts, widths, strict=True)
    ]
    return sum(sums) / sum(widths)

  def statistic(
    self, x: jax.Array, batch_mean: BatchMean = batch_mean
  ) -> jax.Array:
    """Return the mean standard deviation of each example's group.

    Args:
      x: As in `__call__`.
      batch_mean: As in `__call__`.

    Returns:
      (B or 1, 1, 1, 1), float32 or float64; (B or 1, H, W, 1), folded, if
      spatial.
    """
    if self.group:
      return self._of_groups(x)
    x32 = x.astype(at_least_float32(x))
    variance = batch_mean(jnp.square(x32 - batch_mean(x32)))
    return self._average(jnp.sqrt(variance + STDDEV_EPSILON))

  def _of_groups(self, x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    size = min(self.group, b)
    if b % size:
      raise ValueError(
        f"minibatch stddev: groups of {size} do not divide a batch of {b}; "
        f"use a multiple of {size} images"
      )
    if self.grouping == "interleaved":
      statistic = _mean_stddev(x.reshape(size, b // size, h, w, c))
      return jnp.tile(statistic, (size, 1, 1, 1))
    # members[i]: the i-th member of each group, (groups, H, W, C). On CPUs,
    # summing them is ten times faster than a reduction over a middle axis.
    if self.grouping == "contiguous":
      grouped = x.reshape(b // size, size, h, w, c)
      members = [grouped[:, i] for i in range(size)]
    else:
      members = list(x.reshape(size, b // size, h, w, c))
    _, variance = _moments(members)
    stddev = jnp.sqrt(variance + STDDEV_EPSILON)
    statistic = self._average(stddev)  # (groups, 1 or H, 1 or W / f, 1 or f)
    if self.grouping == "contiguous":
      return statistic.repeat(size, axis=0)
    return jnp.tile(statistic, (size, 1, 1, 1))

  def _average(self, stddev: jax.Array) -> jax.Array:
    if not self.spatial:
      return stddev.mean(axis=(1, 2, 3), keepdims=True)
    f = fold_of(stddev)
    of_pixels = stddev.reshape(*stddev.shape[:3], -1, f)
    return of_pixels.mean(axis=3)  # (..., f)


def _moments(members: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Return mean and biased variance over a group, in float32 or float64."""
  # Cast one by one, so that their gradients join in the members' dtype.
  members = [member.astype(at_least_float32(member)) for member in members]
  mean = sum(members) / len(members)
  squares = (jnp.square(member - mean) for member in members)
  return mean, sum(squares) / len(members)


# First and second derivative are one expression each, in the shape of x: TPUs
# need not write, then join, the gradients of members.
@jax.custom_vjp
def _mean_stddev(x: jax.Array) -> jax.Array:
  """Average the standard deviation over the first axis.

  Args:
    x: (members, groups, H, W, C).

  Returns:
    (groups, 1, 1, 1), float32 or float64.
  """
  _, variance = _moments(list(x))
  stddev = jnp.sqrt(variance + STDDEV_EPSILON)
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
  # TPUs fuse slices of arrays in memory, not of results.
  return [x[i : i + 1].astype(at_least_float32(x)) for i in range(len(x))]


def _mean_and_inverse(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return mean and 1 / stddev over the first axis, (1, groups, H, W, C)."""
  mean, variance = _moments(_members(x))
  return _rounded(x.dtype, mean, jax.lax.rsqrt(variance + STDDEV_EPSILON))


def _rounded(dtype: jnp.dtype, *arrays: jax.Array) -> list[jax.Array]:
  """Round as x is rounded; return float32 or float64 again.

  TPUs write these arrays, then read them for each member.
  """
  rounded = jax.lax.optimization_barrier([a.astype(dtype) for a in arrays])
  return [a.astype(b.dtype) for a, b in zip(rounded, arrays, strict=True)]


def _share(x: jax.Array, y_bar: jax.Array) -> jax.Array:
  return y_bar[None] / x[:, 0].size
