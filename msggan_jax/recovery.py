"""Numbers that are not finite: noticed, named, and a few times rolled back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.train_state import TrainState

# A metric of each step, the index of a tensor: no part of what a run reports.
FIRST_BAD = "first_not_finite"

REPORT = "not_finite.json"

_STRIDE = 1_000_003  # between the seeds of the data's order


class NonFinite(ArithmeticError):
  """Training has met a number that is not finite.

  Attributes:
    step: The first that met it.
    names: A metric and the first tensor, as far as they are known.
  """

  def __init__(self, step: int, *names: str):
    """Say what and when."""
    super().__init__(
      f"step {step} met a number that is not finite in {' and '.join(names)}"
    )
    self.step = step
    self.names = names


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


def check_metrics(
  steps: Sequence[int],
  values: Sequence[Mapping[str, Any]],
  names: Sequence[str],
) -> None:
  """Raise NonFinite for the first step with a number that is not finite.

  Args:
    steps: Numbers of the steps.
    values: Their metrics, on the host, `FIRST_BAD` among them.
    names: Of the tensors.
  """
  for step, metrics in zip(steps, values, strict=True):
    bad = [name for name, x in metrics.items() if not np.isfinite(x)][:1]
    if metrics[FIRST_BAD] >= 0:
      bad.append(names[metrics[FIRST_BAD]])
    if bad:
      raise NonFinite(step, *bad)


def check_state(step: int, state: TrainState) -> None:
  """Raise NonFinite for the first tensor of the state that is not finite."""
  trees = vars(state)
  index = int(_first_not_finite(*trees.values()))
  if index >= 0:
    raise NonFinite(step, tensor_names(trees)[index])


def data_seed(seed: int, rollbacks: int) -> int:
  """Return the seed of the data's order after so many rollbacks."""
  return (seed + _STRIDE * rollbacks) % 2**32


def change_randomness(state: TrainState, times: int) -> TrainState:
  """Let the run draw other random numbers from here on."""
  return state.replace(rollbacks=state.rollbacks + times)


def write_report(
  workdir: Path, errors: Sequence[NonFinite], state: TrainState
) -> None:
  """Write `not_finite.json`: what it takes to meet the errors again.

  Args:
    workdir: The run's folder.
    errors: What has happened, one for each attempt.
    state: Where the first attempt began.
  """
  report = {
    "attempts": [{"step": e.step, "not_finite": e.names} for e in errors],
    "from_step": int(state.step),
    "from_rollbacks": int(state.rollbacks),
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "to_repeat": "Start again with the same configuration, devices and "
    "versions: the same attempts follow.",
  }
  temporary = workdir / f".{REPORT}"
  temporary.write_text(json.dumps(report, indent=2) + "\n")
  temporary.replace(workdir / REPORT)


def remove_report(workdir: Path) -> None:
  """Remove `not_finite.json` of a start before this one, if there is any."""
  (workdir / REPORT).unlink(missing_ok=True)


_first_not_finite = jax.jit(first_not_finite)
