"""Minibatch standard deviation: D sees how much a batch varies.

ProGAN, section 3. The paper has it in every block (section 3.1, Table 7). The
authors' earlier code has it only in the last block, over the whole batch.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import at_least_float32

GROUPINGS = ("contiguous", "strided")
PLACEMENTS = ("every_block", "last_block", "none")

BatchMean = Callable[[jax.Array], jax.Array]  # (B, ...) -> (1, ...)


def batch_mean(x: jax.Array) -> jax.Array:
  """Average over the first axis; keep the axis, with length 1."""
  return x.mean(axis=0, keepdims=True)


def examples_together(config: ConfigDict) -> int:
  """Return how many examples share a stddev: 1 without one, 0: the batch."""
  return 1 if config.stddev_placement == "none" else config.stddev_group


@dataclasses.dataclass(frozen=True)
class MinibatchStddev:
  """The minibatch stddev layer (ProGAN, section 3).

  Attributes:
    group: Examples per group, at most B; 0: the whole global batch.
    grouping: "contiguous": neighbors form a group, which never crosses
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
    """Append the statistic to x, (B, H, W, C), as a channel.

    `batch_mean` is the mean over the global batch, for group 0.

    Raises:
      ValueError: If the group size does not divide B.
    """
    statistic = self.statistic(x, batch_mean)
    statistic = jnp.broadcast_to(statistic, (*x.shape[:3], 1))
    return jnp.concatenate([x, statistic.astype(x.dtype)], axis=-1)

  def statistic(
    self,
    x: jax.Array,
    batch_mean: BatchMean = batch_mean,
    average: Callable[[jax.Array], jax.Array] | None = None,
  ) -> jax.Array:
    """Return the mean standard deviation of each example's group.

    It is (B or 1, 1, 1, 1), or (B or 1, H, W, 1) if spatial, float32 or
    float64. `average` replaces the mean over places or channels.
    """
    average = average or self._average
    if self.group:
      return self._of_groups(x, average)
    x32 = x.astype(at_least_float32(x))
    variance = batch_mean(jnp.square(x32 - batch_mean(x32)))
    return average(jnp.sqrt(variance + plain.STDDEV_EPSILON))

  def _of_groups(self, x: jax.Array, average: Callable) -> jax.Array:
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
    _, variance = plain.moments(members)
    statistic = average(jnp.sqrt(variance + plain.STDDEV_EPSILON))
    if self.grouping == "contiguous":
      return statistic.repeat(size, axis=0)
    return jnp.tile(statistic, (size, 1, 1, 1))

  def _average(self, stddev: jax.Array) -> jax.Array:
    axes = 3 if self.spatial else (1, 2, 3)
    return stddev.mean(axis=axes, keepdims=True)
