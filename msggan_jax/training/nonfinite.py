"""NaN and Inf during training: detect, name, roll back, report."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from msggan_jax.algorithm.finite import first_not_finite, tensor_names
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.algorithm.train_step import StepMetrics
from msggan_jax.runtime import jsonl

REPORT = "not_finite.json"
ROLLBACKS = "rollbacks.jsonl"


class NonFinite(ArithmeticError):
  """Training has produced NaN or Inf.

  Attributes:
    step: The first step that did.
    names: A metric and the first tensor, as far as they are known.
  """

  def __init__(self, step: int, *names: str):
    super().__init__(f"step {step} has NaN or Inf in {' and '.join(names)}")
    self.step = step
    self.names = names


def check_metrics(
  steps: Sequence[int],
  metrics: Sequence[StepMetrics],
  names: Sequence[str],
) -> None:
  """Raise NonFinite for the first step with NaN or Inf.

  Args:
    steps: The steps' numbers.
    metrics: Their metrics, on the host.
    names: `finite.step_tensor_names`.
  """
  for step, of_step in zip(steps, metrics, strict=True):
    values = of_step.values.items()
    bad = [name for name, x in values if not np.isfinite(x)][:1]
    if of_step.first_bad >= 0:
      bad.append(names[of_step.first_bad])
    if bad:
      raise NonFinite(step, *bad)


def check_state(step: int, state: TrainState) -> None:
  """Raise NonFinite for the state's first tensor with NaN or Inf."""
  trees = vars(state)
  index = int(_first_not_finite(*trees.values()))
  if index >= 0:
    raise NonFinite(step, tensor_names(trees)[index])


def change_randomness(state: TrainState, times: int) -> TrainState:
  """Return the state with new random numbers from here on."""
  return state.replace(rollbacks=state.rollbacks + times)


def record_rollback(workdir: Path, error: NonFinite, to_step: int) -> None:
  """Append a row to `rollbacks.jsonl`.

  Args:
    workdir: The run's folder.
    error: The reason.
    to_step: The step of the restored checkpoint; 0: the start.
  """
  row = {
    "step": error.step,
    "not_finite": error.names,
    "to_step": to_step,
    "unix_secs": round(time.time(), 3),
  }
  jsonl.append(workdir / ROLLBACKS, row)


def write_report(
  workdir: Path, errors: Sequence[NonFinite], state: TrainState
) -> None:
  """Write `not_finite.json`: everything needed to reproduce the errors.

  Args:
    workdir: The run's folder.
    errors: One error for each attempt.
    state: The state from which the first attempt started.
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
  """Remove the `not_finite.json` of an earlier session, if any."""
  (workdir / REPORT).unlink(missing_ok=True)


_first_not_finite = jax.jit(first_not_finite)
