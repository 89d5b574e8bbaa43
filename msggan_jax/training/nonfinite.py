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
from msggan_jax.runtime import files, jsonl, processes

REPORT = "not_finite.json"

_first_not_finite = jax.jit(train_state.first_not_finite)


class NonFinite(ArithmeticError):
  """Training has produced NaN or Inf.

  Attributes:
    step: The first step that did.
    names: A metric and the first tensor, as far as they are known.
    from_step: Of the newest good checkpoint, once the report is written.
  """

  def __init__(self, step: int, *names: str):
    super().__init__(f"step {step} has NaN or Inf in {' and '.join(names)}")
    self.step = step
    self.names = names
    self.from_step = 0


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


def write_report(workdir: Path, error: NonFinite, rollbacks: int) -> None:
  """Write `not_finite.json`: what is needed to repeat the error.

  Earlier errors after the same checkpoint stay. `rollbacks` are those of the
  state that met this one.
  """
  rows = jsonl.read(workdir / "stats.jsonl")
  before = [row for row in rows if row["step"] < error.step]
  attempts = [
    attempt
    for attempt in _read_report(workdir).get("attempts", ())
    if attempt["from_step"] == error.from_step
  ]
  attempts.append(
    {
      "step": error.step,
      "not_finite": error.names,
      "from_step": error.from_step,
      "rollbacks": rollbacks,
    }
  )
  report = {
    "attempts": attempts,
    "row_before": before[-1] if before else None,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "to_repeat": "give the same command on the same devices and versions",
    "to_continue": "give the same command with --new_randomness",
  }
  _write_report(workdir, report)


def check_stopped(workdir: Path, *, new: bool) -> None:
  """Raise ValueError if new random numbers are for no stopped run."""
  if new and not (workdir / REPORT).is_file():
    raise ValueError(
      f"--new_randomness continues a run that has stopped at NaN or Inf, but "
      f"{workdir} has no {REPORT}; leave the flag out"
    )


def attempt(workdir: Path, step: int, *, new: bool) -> int:
  """Return the `rollbacks` with which a run continues; a call of all.

  They count if they are more than those of the state.

  Args:
    step: Of the checkpoint from which it continues.
    new: Begin another attempt, if the last one has ended at NaN or Inf.
  """
  number = 0
  if processes.is_first():
    report = _read_report(workdir)
    attempts = report.get("attempts", ())
    if attempts and attempts[-1]["from_step"] == step:
      if new and not report.get("continued"):
        # Kept in case that the run is killed before its next checkpoint.
        report["continued"] = True
        _write_report(workdir, report)
      number = attempts[-1]["rollbacks"] + bool(report.get("continued"))
  return processes.from_first(number)


def _read_report(workdir: Path) -> dict[str, Any]:
  try:
    report = json.loads((workdir / REPORT).read_bytes())
    [(a["from_step"], a["rollbacks"]) for a in report["attempts"]]
    return report
  except (OSError, ValueError, TypeError, KeyError):  # none, or an older one
    return {}


def _write_report(workdir: Path, report: Mapping[str, Any]) -> None:
  files.write(workdir / REPORT, json.dumps(report, indent=2) + "\n")


def remove_report(workdir: Path) -> None:
  """Remove the `not_finite.json` of an earlier session, if any."""
  (workdir / REPORT).unlink(missing_ok=True)
