"""The first tensor of a step that holds NaN or Inf."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def first_not_finite(*trees: Any) -> jax.Array:
  """Return the index of the first tensor that holds NaN or Inf.

  Cheap enough for every step: no host sync.

  Args:
    *trees: Trees of arrays, in the order in which they are computed.

  Returns:
    (), int32, into `tensor_names`; -1 if all are finite.
  """
  bad = jnp.stack([~jnp.isfinite(x).all() for x in jax.tree.leaves(trees)])
  return jnp.where(bad.any(), jnp.argmax(bad), -1)


def tensor_names(trees: Mapping[str, Any]) -> list[str]:
  """Return the paths of all tensors, such as d_params/block_8x8/conv1/kernel.

  Args:
    trees: Trees of arrays, or of their shapes, by name.
  """
  return [
    f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
    for name, tree in trees.items()
    for path, _ in jax.tree.leaves_with_path(tree)
  ]


def step_tensor_names(d_params: Any, g_params: Any) -> list[str]:
  """Return the names behind `StepMetrics.first_bad`."""
  return tensor_names(
    {
      "d_params": d_params,
      "g_params": g_params,
      "d_grads": d_params,
      "g_grads": g_params,
    }
  )
