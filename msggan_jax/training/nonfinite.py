"""Numbers that are not finite: noticed, named, and a few times rolled back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from msggan_jax.algorithm.finite import (
  FIRST_BAD,
  first_not_finite,
  tensor_names,
)
from msggan_jax.algorithm.train_state import TrainState

REPORT = "not_finite.json"


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
