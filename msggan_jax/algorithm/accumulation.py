"""Gradient accumulation: a batch in parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_parts(
  f: Callable[..., Any],
  part_size: int,
  *,
  out_axis: int = 0,
  has_means: bool = False,
) -> Callable[..., Any]:
  """Let a function work through a batch in parts, one part in memory at a time.

  Derivatives recompute its intermediate values. The parts' results are joined
  before anything is averaged, so a loss of all of them has its exact gradient.

  `f` maps trees of arrays, (part_size, ...), or None to per-example results
  with the examples along `out_axis`; with `has_means`, to a pair of them and
  means over the part. `part_size` divides the batch; 0: the whole batch.
  """

  def pair(*part):
    return f(*part) if has_means else (f(*part), ())

  def of_batch(*batch):
    size = len(jax.tree.leaves(batch)[0])
    if part_size in (0, size):
      return f(*batch)
    count = size // part_size
    parts = jax.tree.map(
      lambda x: x.reshape(count, part_size, *x.shape[1:]), batch
    )

    def body(total, part):
      examples, means = jax.checkpoint(pair)(*part)
      return jax.tree.map(jnp.add, total, means), examples

    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(pair, *first)[1]
    )
    total, examples = jax.lax.scan(body, zeros, parts)
    examples = jax.tree.map(lambda x: _join(x, out_axis), examples)
    means = jax.tree.map(lambda x: x / count, total)
    return (examples, means) if has_means else examples

  return of_batch


def _join(x: jax.Array, axis: int) -> jax.Array:
  """Join (parts, ..., part_size, ...) along the axis of the examples."""
  x = jnp.moveaxis(x, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
