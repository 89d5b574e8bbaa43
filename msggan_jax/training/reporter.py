"""What a run tells: stats.jsonl, TensorBoard, the console line."""

import collections
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from msggan_jax.runtime import jsonl, memory
from msggan_jax.runtime.clock import TimeRecord, duration
from msggan_jax.training import nonfinite

# clu imports TensorFlow, for TensorBoard's files alone: it keeps quiet about
# itself, and it must not take the accelerators' memory.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
import tensorflow as tf
from clu import metric_writers

tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

Metrics = dict[str, jax.Array]

_MOST_PENDING = 1000  # steps whose metrics wait on the device


class Reporter:
  """Collects the steps' metrics on the device, reports their means."""

  def __init__(
    self,
    workdir: Path,
    *,
    batch_size: int,
    total_steps: int,
    first_step: int,
    tensor_names: Sequence[str],
    times: TimeRecord,
  ):
    """Open a run's logs.

    Args:
      workdir: Where they are; rows of `stats.jsonl` from steps that the
        resumed checkpoint does not know are dropped.
      batch_size: Global batch size: images per step.
      total_steps: Steps of the whole run.
      first_step: Steps done before this session.
      tensor_names: Of `finite.tensor_names`, to name one that is not finite.
      times: Where the time goes.
    """
    self._stats_path = workdir / "stats.jsonl"
    self._batch_size = batch_size
    self._total_steps = total_steps
    self._tensor_names = tensor_names
    self._times = times
    self._pending: list[tuple[int, Metrics]] = []  # on the device
    self._forget()
    self._row_step: int | None = None  # of the row to be written next
    self._row_extra: Mapping[str, float] = {}  # what else it says
    self._last_step = first_step
    self._is_writer = jax.process_index() == 0
    self._console = Console()
    times.resume(jsonl.read(self._stats_path), first_step)
    self._last_secs = self._training_secs()
    if self._is_writer:
      jsonl.drop_after(self._stats_path, first_step)
      # Not clu's AsyncWriter: it keeps what it has written until it is flushed.
      self._tensorboard = metric_writers.SummaryWriter(
        str(workdir / "tensorboard")
      )

  def add(self, step: int, metrics: Metrics) -> None:
    """Take the metrics of step number `step` without waiting for them."""
    # The device has this step to work on while the host writes of those before.
    self._write_row()
    if len(self._pending) == _MOST_PENDING:
      self.check()
    self._pending.append((step, metrics))

  def report(self, step: int, extra: Mapping[str, float] | None = None) -> None:
    """Let the steps since the last report, up to this one, become a row.

    It is written when the next step has been given to the device, or at the
    end: the loop never waits. If a metric is not finite then, that raises
    `nonfinite.NonFinite` instead.

    Args:
      step: The last step of the row.
      extra: What else the row says.
    """
    self._row_step = step
    self._row_extra = extra or {}

  def check(self) -> None:
    """Wait for the steps so far, and take their metrics into the row.

    Raises:
      nonfinite.NonFinite: If one has met a number that is not finite.
    """
    pending, self._pending = self._pending, []
    steps = [step for step, _ in pending]
    values = jax.device_get([metrics for _, metrics in pending])
    nonfinite.check_metrics(steps, values, self._tensor_names)
    for metrics in values:
      for name, value in metrics.values.items():
        self._sums[name] = self._sums.get(name, np.float32(0)) + value
        self._counts[name] += int(metrics.counts[name])

  def flush(self) -> None:
    """Write the row that was asked for now, waiting for its steps."""
    self._write_row()

  def rewind(self, step: int) -> None:
    """Forget everything after a step that the run goes back to."""
    self._pending = []
    self._forget()
    self._row_step = None
    self._times.rewind(jsonl.read(self._stats_path), step)
    self._last_step, self._last_secs = step, self._training_secs()
    if self._is_writer:
      jsonl.drop_after(self._stats_path, step)

  @contextlib.contextmanager
  def paused(self, what: str) -> Iterator[None]:
    """Do something else, which does not count in the measured speed.

    Args:
      what: It is, for the record of times.
    """
    self.flush()
    jax.block_until_ready(self._pending)
    with self._times.during(what):
      yield

  def _forget(self) -> None:
    """Begin a row."""
    self._sums: dict[str, np.floating] = {}
    self._counts: collections.Counter[str] = collections.Counter()

  def _training_secs(self) -> float:
    secs = self._times.secs
    return secs.get("step", 0.0) + secs.get("data", 0.0)

  def _write_row(self) -> None:
    step, self._row_step = self._row_step, None
    if step is None:
      return
    self.check()
    means = {
      name: float(total / self._counts[name])
      for name, total in self._sums.items()
      if self._counts[name]
    }
    self._forget()
    now = self._training_secs()
    images_per_sec = (
      (step - self._last_step) * self._batch_size / (now - self._last_secs)
    )
    self._last_step, self._last_secs = step, now
    row = {
      "step": step,
      "kimg": round(step * self._batch_size / 1000, 6),
      **means,
      "images_per_sec": images_per_sec,
      "secs_per_kimg": 1000 / images_per_sec,
      "memory_bytes": memory.peak_bytes(),
      **self._times.as_row(),
      **self._row_extra,
    }
    if not self._is_writer:
      return
    jsonl.append(self._stats_path, row)
    beside = ("step", "kimg", "unix_secs")
    scalars = {k: v for k, v in row.items() if k not in beside}
    self.write_scalars(step, scalars)
    secs_left = (self._total_steps - step) * self._batch_size / images_per_sec
    self._console.update(
      f"kimg {row['kimg']:.2f}/{self._total_steps * self._batch_size / 1000:g}"
      f"  d_loss {row['d_loss']:.3f}  g_loss {row['g_loss']:.3f}"
      f"  {images_per_sec:.1f} images/s  {duration(secs_left)} left"
    )

  def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Show numbers in TensorBoard."""
    if self._is_writer:
      # TensorFlow keeps each Python number that it has ever seen.
      arrays = {name: np.asarray(x, np.float32) for name, x in values.items()}
      self._tensorboard.write_scalars(np.asarray(step), arrays)

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Show an image, uint8 (H, W, C), in TensorBoard."""
    if self._is_writer:
      self._tensorboard.write_images(step, {name: image[None, :, :, :3]})

  def say(self, line: str) -> None:
    """Print a line of its own, above the updating one."""
    if self._is_writer:
      self._console.line(line)

  def close(self) -> None:
    """Write what is left."""
    self._write_row()
    self._console.end()
    if self._is_writer:
      self._tensorboard.close()


class Console:
  """One line that updates on a terminal, plain lines elsewhere."""

  def __init__(self):
    """Look whether this is a terminal."""
    self._is_terminal = sys.stdout.isatty()
    self._width = 0  # of the line that stands there, if any

  def update(self, line: str) -> None:
    """Replace the updating line."""
    if not self._is_terminal:
      print(line, flush=True)
      return
    print("\r" + line.ljust(self._width), end="", flush=True)
    self._width = len(line)

  def line(self, line: str) -> None:
    """Print a line that stays."""
    if self._width:
      print("\r" + " " * self._width + "\r", end="")
      self._width = 0
    print(line, flush=True)

  def end(self) -> None:
    """Leave the updating line as it stands."""
    if self._width:
      print(flush=True)
      self._width = 0
