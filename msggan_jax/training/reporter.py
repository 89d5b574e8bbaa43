"""Records of a run: stats.jsonl, events, samples, the progress line."""

import collections
import contextlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tensorboardX import summary as summaries
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from msggan_jax.algorithm.train_step import StepMetrics
from msggan_jax.checkpoints import trained
from msggan_jax.data import PreparedSet, pictures
from msggan_jax.metrics.reals import Reals
from msggan_jax.models.pyramid import resolution_of
from msggan_jax.runtime import jsonl, machine, processes, progress
from msggan_jax.runtime.clock import TimeRecord, duration
from msggan_jax.training import nonfinite
from msggan_jax.training.events import Schedule

_MOST_PENDING = 1000  # steps whose metrics wait on the device


class EventFile:
  """A new TensorBoard file in a folder; each event is in it at once.

  tensorboardX's `SummaryWriter` has a queue between processes, which loses
  events on a kill; its `EventsWriter` has none.
  """

  def __init__(self, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    self._writer = EventsWriter(str(folder / "events"))
    self.close = self._writer.close

  def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Write numbers of a step."""
    tagged = [Summary.Value(tag=k, simple_value=x) for k, x in values.items()]
    self._write(step, Summary(value=tagged))

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Write an image, uint8, (H, W, C); alpha is dropped."""
    self._write(step, summaries.image(name, image[..., :3], dataformats="HWC"))

  def _write(self, step: int, summary: Summary) -> None:
    self._writer.write_event(
      Event(step=step, wall_time=time.time(), summary=summary)
    )
    self._writer.flush()


class Reporter:
  """Collects the steps' metrics on the device and reports their means."""

  def __init__(
    self,
    workdir: Path,
    *,
    schedule: Schedule,
    first_step: int,
    tensor_names: Sequence[str],
    times: TimeRecord,
  ):
    """Open a run's logs, without the rows after `first_step`."""
    self._workdir = workdir
    self._stats_path = workdir / "stats.jsonl"
    self._schedule = schedule
    self._total_kimg = schedule.kimg_at(schedule.total_steps)
    self._tensor_names = tensor_names
    self._times = times
    self._pending: list[tuple[int, StepMetrics]] = []  # on the device
    self._begin_row()
    self._row_step: int | None = None  # of the row that is written next
    self._row_extra: Mapping[str, float] = {}
    self._last_step = first_step
    self._is_writer = processes.is_first()
    self._is_terminal = sys.stdout.isatty()
    self._bar = tqdm(  # elsewhere plain lines
      total=self._total_kimg,
      file=sys.stdout,
      bar_format="{bar:20} {n:.2f}/{total:g} kimg{postfix}",
      dynamic_ncols=True,
      disable=not (self._is_terminal and self._is_writer),
    )
    times.resume(jsonl.read_steps(self._stats_path), first_step)
    self._last_secs = self._training_secs()
    if self._is_writer:
      jsonl.drop_after(self._stats_path, first_step)
      self._delete_samples_after(first_step)
      self._events = EventFile(workdir / "tensorboard")

  def add(self, step: int, metrics: StepMetrics) -> None:
    """Add the metrics of a step without waiting for them."""
    # The device works on this step while the host writes the row before it.
    self.flush()
    if len(self._pending) == _MOST_PENDING:
      self.check()
    self._pending.append((step, metrics))

  def wait(self, ahead: int) -> None:
    """Wait until fewer than `ahead` of the added steps are unfinished."""
    if len(self._pending) >= ahead:
      jax.block_until_ready(self._pending[-ahead][1])

  def report(self, step: int, extra: Mapping[str, float] | None = None) -> None:
    """Make a row of the steps since the last row.

    It is written after the next step has been dispatched, or at the end, so
    that the loop never waits. NaN or Inf then raises `nonfinite.NonFinite`.
    """
    self._row_step = step
    self._row_extra = extra or {}

  def check(self) -> None:
    """Add the steps so far to the row; raise NonFinite for NaN or Inf."""
    pending, self._pending = self._pending, []
    steps = [step for step, _ in pending]
    metrics = jax.device_get([metrics for _, metrics in pending])
    nonfinite.check_metrics(steps, metrics, self._tensor_names)
    for of_step in metrics:
      for name, value in of_step.values.items():
        self._sums[name] = self._sums.get(name, np.float32(0)) + value
        self._counts[name] += int(of_step.counts[name])

  @contextlib.contextmanager
  def paused(self, what: str) -> Iterator[None]:
    """Run the block without counting its time in the measured speed."""
    self.flush()
    jax.block_until_ready(self._pending)
    with self._times.during(what):
      yield

  def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Write numbers to the event file."""
    if self._is_writer:
      self._events.write_scalars(step, values)

  def write_reals(self, prepared: PreparedSet, bands: str = "") -> None:
    """Write `reals.png`, always the same ones, as large as the samples'."""
    if not self._is_writer:
      return
    columns = pictures.grid_columns(prepared.metadata.resolution)
    numbers, _ = Reals.of(prepared).draw("", columns * columns)
    if len(numbers) > columns:  # whole rows: a black place is no image
      numbers = numbers[: len(numbers) // columns * columns]
    reals = np.stack([prepared.levels(int(i)) for i in numbers])
    sheet = pictures.grid(prepared.metadata.view(reals, bands), columns)
    pictures.save_sheet(sheet, self._workdir / "reals.png")

  def write_samples(self, step: int, generator: trained.Generator) -> None:
    """Write what the generator makes of fixed latents.

    `samples/<res>x<res>/<kimg>.png` is a grid of all, `samples/scales/` has all
    scales of some. The largest grid is in the event file, too.
    """
    self.flush()  # first: of NaN there is no row
    self.check()  # and no samples
    if not self._is_writer:
      return
    with self.paused("samples"):
      config = generator.config
      columns = pictures.grid_columns(config.resolution)
      key = jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1)
      z = generator.sample_latents(key, columns * columns)
      labels = generator.labels_in_turn(len(z))
      pyramid = progress.map_batches(generator, z, labels, batch_size=4)
      names = ["{0}x{0}".format(resolution_of(scale)) for scale in pyramid]
      pyramid = [generator.view(scale) for scale in pyramid]
      sheets = {"scales": pictures.scale_sheet(pyramid, examples=columns)}
      for name, scale in zip(names, pyramid, strict=True):
        sheets[name] = pictures.grid(scale, columns)
      for name, sheet in sheets.items():
        file = self._workdir / "samples" / name / self._sample_name(step)
        pictures.save_sheet(sheet, file)
      self._events.write_image(step, "samples", sheet)

  def _sample_name(self, step: int) -> str:
    return f"{self._schedule.kimg_at(step):010.3f}.png"

  def _delete_samples_after(self, step: int) -> None:
    """Delete an abandoned branch's samples; at step 0 a failed start's, too."""
    for file in (self._workdir / "samples").glob("*/*.png"):
      is_ours = re.fullmatch(r"\d{6}\.\d{3}\.png", file.name)
      if is_ours and (step == 0 or file.name > self._sample_name(step)):
        file.unlink()

  def close(self) -> None:
    """Write the pending row and close the logs."""
    self.flush()
    self._bar.close()
    if self._is_writer:
      self._events.close()

  def _begin_row(self) -> None:
    self._sums: dict[str, np.floating] = {}
    self._counts: collections.Counter[str] = collections.Counter()

  def _training_secs(self) -> float:
    secs = self._times.secs
    return secs.get("step", 0.0) + secs.get("data", 0.0)

  def flush(self) -> None:
    """Write the pending row now, waiting for its steps."""
    step, self._row_step = self._row_step, None
    if step is None:
      return
    self.check()
    means = {
      name: float(total / self._counts[name])
      for name, total in self._sums.items()
      if self._counts[name]
    }
    self._begin_row()
    now = self._training_secs()
    kimg = self._schedule.kimg_at(step)
    images_per_sec = (
      1000
      * (kimg - self._schedule.kimg_at(self._last_step))
      / (now - self._last_secs)
    )
    self._last_step, self._last_secs = step, now
    row = {
      "step": step,
      "kimg": round(kimg, 6),
      **means,
      "images_per_sec": images_per_sec,
      "secs_per_kimg": 1000 / images_per_sec,
      "memory_bytes": machine.peak_bytes(),
      **self._times.as_row(),
      **self._row_extra,
    }
    if not self._is_writer:
      return
    jsonl.append(self._stats_path, row)
    beside = ("step", "kimg", "unix_secs")
    self.write_scalars(step, {k: v for k, v in row.items() if k not in beside})
    left = duration(1000 * (self._total_kimg - kimg) / images_per_sec)
    if not self._schedule.is_last_stage(step):  # later ones are slower
      left += " or more"
    numbers = (
      f"d_loss {row['d_loss']:.3f}  g_loss {row['g_loss']:.3f}"
      f"  {images_per_sec:.1f} images/s  {left} left"
    )
    if not self._is_terminal:
      total = f"{self._total_kimg:g}"
      processes.say(f"kimg {row['kimg']:.2f}/{total}  {numbers}")
      return
    self._bar.n = row["kimg"]
    self._bar.set_postfix_str(numbers)
