"""Gradient accumulation: a batch in parts, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_parts(
  f: Callable[..., tuple[Any, Any]],
  part_size: int,
  *batch: Any,
  out_axis: int = 0,
) -> tuple[Any, Any]:
  """Call a function on parts of a batch, keeping one part's work in memory.

  What derivatives need of a part is computed again when they are taken: the
  function's arguments alone are kept. As the parts' results are joined before
  anything is averaged, a loss of all of them has its exact gradient.

  Args:
    f: (part of the batch) -> (examples, means): arrays with one entry an
      example along `out_axis`, and arrays that are means over the examples.
    part_size: Examples in a part, a divisor of their number; 0: all at once.
    *batch: Trees of arrays, (B, ...), or None.
    out_axis: Of the examples in f's results.

  Returns:
    What f returns of the whole batch.
  """
  size = len(jax.tree.leaves(batch)[0])
  if part_size in (0, size):
    return f(*batch)
  count = size // part_size
  parts = jax.tree.map(
    lambda x: x.reshape(count, part_size, *x.shape[1:]), batch
  )

  def body(total, part):
    examples, means = jax.checkpoint(f)(*part)
    return jax.tree.map(jnp.add, total, means), examples

  first = jax.tree.map(lambda x: x[0], parts)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, *first)[1]
  )
  total, examples = jax.lax.scan(body, zeros, parts)
  return (
    jax.tree.map(lambda x: _join(x, out_axis), examples),
    jax.tree.map(lambda x: x / count, total),
  )


def _join(x: jax.Array, axis: int) -> jax.Array:
  """Join (parts, ..., part_size, ...) along the axis of the examples."""
  x = jnp.moveaxis(x, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
