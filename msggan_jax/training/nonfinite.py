"""NaN and Inf during training: detect, name, report, continue otherwise."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from msggan_jax.algorithm import train_state
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.algorithm.train_step import StepMetrics
from msggan_jax.runtime import errors, files, processes

REPORT = "not_finite.json"

_first_not_finite = jax.jit(train_state.first_not_finite)


class NonFinite(errors.Ending):
  """A step has NaN or Inf: in a metric and a tensor, as far as it is known."""

  def __init__(self, step: int, *names: str):
    super().__init__(f"step {step} has NaN or Inf in {' and '.join(names)}")
    self.step = step
    self.names = names


def check_metrics(
  steps: Sequence[int], metrics: Sequence[StepMetrics], names: Sequence[str]
) -> None:
  """Raise NonFinite for the first step with NaN or Inf."""
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
    raise NonFinite(step, train_state.tensor_names(trees)[index])


def report(
  workdir: Path, error: NonFinite, from_step: int, rollbacks: int
) -> None:
  """Add the remedy to the error, and the attempt to `not_finite.json`.

  Earlier attempts after the same checkpoint, of step `from_step`, stay there.
  `rollbacks` are those of the state that met the error.
  """
  error.args = (
    f"{error}; the run stands at step {from_step}, see {workdir / REPORT}; "
    "to continue it with other random numbers, give the same command with "
    "--new_randomness",
  )
  if processes.is_first():
    attempt = {
      "step": error.step,
      "not_finite": error.names,
      "from_step": from_step,
      "rollbacks": rollbacks,
    }
    before = _read_report(workdir, from_step)["attempts"]
    _write_report(workdir, {"attempts": [*before, attempt]})


def check_stopped(workdir: Path, *, new: bool) -> None:
  """Raise ValueError if new random numbers are for no stopped run."""
  if new and not (workdir / REPORT).is_file():
    raise ValueError(
      f"--new_randomness continues a run that has stopped at NaN or Inf, but "
      f"{workdir} has no {REPORT}; leave the flag out"
    )


def attempt(workdir: Path, step: int, *, new: bool) -> int:
  """Return the `rollbacks` with which a run continues; a call of all.

  They count if they are more than the state's, of the checkpoint of a step.
  `new` begins another attempt if the last one has ended at NaN or Inf.
  """
  number = 0
  if processes.is_first():
    last = _read_report(workdir, step)
    if last["attempts"]:
      if new and not last.get("continued"):
        # Kept in case that the run is killed before its next checkpoint.
        last["continued"] = True
        _write_report(workdir, last)
      number = last["attempts"][-1]["rollbacks"] + bool(last.get("continued"))
  return processes.from_first(number)


def _read_report(workdir: Path, from_step: int) -> dict[str, Any]:
  """Return what has been tried after a checkpoint."""
  try:
    report = json.loads((workdir / REPORT).read_bytes())
    attempts = [(a["from_step"], a["rollbacks"]) for a in report["attempts"]]
    if attempts[-1][0] == from_step:
      return report
  except (OSError, ValueError, TypeError, LookupError):  # none, or an older one
    pass
  return {"attempts": []}


def _write_report(workdir: Path, report: Mapping[str, Any]) -> None:
  files.write(workdir / REPORT, json.dumps(report, indent=2) + "\n")
