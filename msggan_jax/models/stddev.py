"""Minibatch standard deviation: D sees how much a batch varies.

ProGAN, section 3. The paper has it in every block (section 3.1, Table 7). The
authors' earlier code has it only in the last block, over the whole batch.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from msggan_jax.models.folded import fold_of
from msggan_jax.models.layers import at_least_float32

STDDEV_EPSILON = 1e-8
GROUPINGS = ("contiguous", "strided")

BatchMean = Callable[[jax.Array], jax.Array]  # (B, ...) -> (1, ...)


def batch_mean(x: jax.Array) -> jax.Array:
  """Average over the first axis; keep the axis, with length 1."""
  return x.mean(axis=0, keepdims=True)


@dataclasses.dataclass(frozen=True)
class MinibatchStddev:
  """The minibatch stddev layer (ProGAN, section 3).

  Attributes:
    group: Examples per group, at most B; 0: the whole global batch.
    grouping: "contiguous": neighbours form a group, which never crosses
      devices. "strided": examples i, i + B/g, i + 2B/g, ... do, as in the
      official TensorFlow code.
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
    # members[i]: the i-th member of each group, (groups, H, W, C). On CPUs,
    # summing them is ten times faster than a reduction over a middle axis.
    if self.grouping == "contiguous":
      grouped = x.reshape(b // size, size, h, w, c)
      members = [grouped[:, i] for i in range(size)]
    else:
      members = list(x.reshape(size, b // size, h, w, c))
    # Cast one by one, so that their gradients join in x's dtype.
    members = [member.astype(at_least_float32(x)) for member in members]
    mean = sum(members) / size
    variance = sum(jnp.square(member - mean) for member in members) / size
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
