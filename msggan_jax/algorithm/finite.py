"""Which tensor is the first that is not finite; seeds after a rollback."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

# A metric of each step, the index of a tensor: no part of what a run reports.
FIRST_BAD = "first_not_finite"

_STRIDE = 1_000_003  # between the seeds of the data's order


def first_not_finite(*trees: Any) -> jax.Array:
  """Return the index, in the order of `tensor_names`, of the first bad tensor.

  It costs a look at each tensor and no wait, so that each step can have it.

  Args:
    *trees: Of arrays, in the order in which they are computed.

  Returns:
    (), int32; -1 if all are finite.
  """
  bad = jnp.stack([~jnp.isfinite(x).all() for x in jax.tree.leaves(trees)])
  return jnp.where(bad.any(), jnp.argmax(bad), -1)


def tensor_names(trees: Mapping[str, Any]) -> list[str]:
  """Return the paths of all tensors, such as d_params/block_8x8/conv1/kernel.

  Args:
    trees: Arrays, or their shapes.
  """
  return [
    f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
    for name, tree in trees.items()
    for path, _ in jax.tree.leaves_with_path(tree)
  ]


def step_trees(d_params: Any, g_params: Any) -> dict[str, Any]:
  """Return shapes like those of what a step looks at, for `tensor_names`."""
  return {
    "d_params": d_params,
    "g_params": g_params,
    "d_grads": d_params,
    "g_grads": g_params,
  }


def data_seed(seed: int, rollbacks: int) -> int:
  """Return the seed of the data's order after so many rollbacks."""
  return (seed + _STRIDE * rollbacks) % 2**32
