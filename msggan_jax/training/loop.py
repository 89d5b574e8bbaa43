"""Training: builds everything, then the loop of steps, logs and snapshots."""

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax import data, metrics
from msggan_jax.algorithm import config_fields, finite
from msggan_jax.algorithm.program import Program, make_program
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.planning import compilation
from msggan_jax.runtime import memory, processes, sharding
from msggan_jax.runtime.clock import TimeRecord
from msggan_jax.runtime.preemption import Preemption, Stopped
from msggan_jax.training import evaluation, grids, nonfinite
from msggan_jax.weights import trained, workdirs
from msggan_jax.weights.checkpoint import Checkpoints


def train(
  config: ConfigDict, workdir: str | Path, *, began: float | None = None
) -> TrainState:
  """Train, from the start or from where the workdir stands.

  Args:
    config: The configuration; see `configs/default.py`.
    workdir: The run's folder.
    began: When the program did, as `time.time` has it; None: now.

  Returns:
    The final state.

  Raises:
    ValueError: If the configuration is impossible or the workdir holds a run
      of another one.
    preemption.Stopped: If a signal asked to stop; the state is saved.
    nonfinite.NonFinite: If a number is not finite, however often the run goes
      back to its last checkpoint.
  """
  times = TimeRecord(time.time() if began is None else began)
  workdir = Path(workdir)
  config_fields.validate(config, jax.device_count())
  workdirs.check_config(config, workdir)
  evaluation.choose(config)
  planned = compilation.with_remat(config, jax.devices(), memory.limit_bytes())
  program = make_program(planned, sharding.make_mesh())

  prepared = data.LenientSet(
    data.open_prepared(
      data.prepare(config.dataset, config.resolution, config.channels)
    ),
    config.dataset.max_unreadable,
    workdir / "unreadable.jsonl",
  )
  processes.check_same("the data set", prepared.metadata.content_hash)
  config_fields.check_classes(config, prepared.metadata.num_classes)
  evaluator = evaluation.make_evaluator(config, prepared)
  if processes.is_first():
    workdirs.save_config(config, workdir)

  checkpoints = Checkpoints(
    workdir / "checkpoints",
    keep=config.keep,
    keep_every=1000 * config.keep_kimg / config.batch_size,
  )
  with (
    # The step compiles while all else is made ready.
    ThreadPoolExecutor(max_workers=1) as background,
    checkpoints,
    Preemption() as stop,
  ):
    compiling = background.submit(_compile_step, program)
    state = _newest_state(checkpoints, program)
    session = _Session(
      config,
      workdir,
      program,
      prepared,
      evaluator,
      checkpoints,
      stop,
      times,
      _make_reporter(config, workdir, state, times),
    )
    session.begin(state)
    with times.during("compile"):
      step, secs = compiling.result()
    session.reporter.say(f"compiled the step in {secs:.0f} s")
    return session.run(step, state)


@dataclasses.dataclass(frozen=True)
class _Session:
  """All that takes part from the first step to the last."""

  config: ConfigDict
  workdir: Path
  program: Program
  prepared: data.PreparedSet
  evaluator: metrics.Evaluator | None
  checkpoints: Checkpoints
  stop: Preemption
  times: TimeRecord
  reporter: Any  # reporter.Reporter

  def begin(self, state: TrainState) -> None:
    """Say what is going to be, and show what there is before a first step."""
    self.reporter.say(f"{len(self.prepared)} images in {self.prepared.path}")
    if self.evaluator is None and self.config.eval_kimg:
      self.reporter.say(evaluation.WITHOUT_WEIGHTS)
    if state.step > 0:
      self.reporter.say(
        f"resuming {self.workdir} at step {int(state.step)} of "
        f"{_total_steps(self.config)}"
      )
      return
    if processes.is_first():
      grids.write_reals(self.workdir, self.prepared, self.config)
    self._write_samples(0, state)

  def run(self, step: Callable, state: TrainState) -> TrainState:
    """Take all steps that are left, going back where numbers are not finite.

    Args:
      step: The compiled step.
      state: From which to go on; it is donated.

    Returns:
      The final state.
    """
    self.times.switch_to("step")
    errors = []  # since the checkpoint that the run goes back to
    while True:
      first_step = int(state.step)
      try:
        with contextlib.closing(self._loader_from(state)) as loader:
          state = self._take_steps(step, state, loader)
        self._finish()
        if processes.is_first():
          nonfinite.remove_report(self.workdir)
        return state
      except Stopped:
        self._finish()
        raise
      except nonfinite.NonFinite as error:
        # What failed must not keep the state that it had.
        traceback.clear_frames(error.__traceback__)
        error = error.with_traceback(None)
        self.checkpoints.wait()
        processes.wait_for_all("the checkpoint to go back to")
        state = _newest_state(self.checkpoints, self.program)
        if state.step != first_step:
          errors = []
        errors.append(error)
        self.reporter.rewind(int(state.step))
        if len(errors) > self.config.max_rollbacks:
          if processes.is_first():
            nonfinite.write_report(self.workdir, errors, state)
          self._finish()
          raise error
        state = nonfinite.change_randomness(state, len(errors))
        self.reporter.say(
          f"{error}: back to step {int(state.step)} with other random numbers, "
          f"{len(errors)} of at most {self.config.max_rollbacks} times"
        )

  def _take_steps(
    self, take_step: Callable, state: TrainState, loader: Iterator
  ) -> TrainState:
    config, reporter = self.config, self.reporter
    total_steps = _total_steps(config)
    first_step = int(state.step)
    with reporter.paused("stability"):
      evaluating = evaluation.Evaluation(
        self.workdir,
        self.evaluator,
        self.checkpoints,
        reporter,
        self._ema_generator(state),
        first_step,
      )
    # If it was stopped between a checkpoint and its evaluation.
    if first_step and self._due(first_step, config.eval_kimg):
      evaluating.evaluate(first_step, self._ema_generator(state))
    for step in range(first_step + 1, total_steps + 1):
      with self.times.during("data"):
        batch = sharding.put_batch(self.program.mesh, next(loader))
      state, step_metrics = take_step(state, batch)
      reporter.add(step, step_metrics)
      last = step == total_steps
      # It ends a row and writes one, so that nothing is lost.
      stopped = self.stop.reached()
      evaluate = self._due(step, config.eval_kimg)
      sample = last or self._due(step, config.sample_kimg)
      snapshot = last or stopped or evaluate
      snapshot = snapshot or self._due(step, config.snapshot_kimg)
      if snapshot or sample:
        reporter.check()
      if snapshot:
        with self.times.during("checkpoint"):
          nonfinite.check_state(step, state)
        changes = evaluating.compare(step, self._ema_generator(state))
        reporter.report(step, changes)
        reporter.flush()  # no checkpoint is there before its row
      elif self._due(step, config.log_kimg):
        reporter.report(step)
      if sample:
        self._write_samples(step, state)
      if snapshot:
        with self.times.during("checkpoint"):
          self.checkpoints.save(step, state)
      if stopped and not last:
        raise Stopped(step)
      if evaluate:
        evaluating.evaluate(step, self._ema_generator(state))
    return state

  def _finish(self) -> None:
    """Wait for what is still being written, and say where the time went."""
    self.reporter.flush()
    with self.times.during("checkpoint"):
      self.checkpoints.wait()
    self.reporter.say(f"time: {self.times.describe()}")
    self.reporter.close()

  def _due(self, step: int, every_kimg: float) -> bool:
    """Whether the images seen pass a multiple of `every_kimg` at a step."""
    if not every_kimg:
      return False
    every = 1000 * every_kimg
    shown = self.config.batch_size * step
    return shown // every > (shown - self.config.batch_size) // every

  def _loader_from(self, state: TrainState) -> Iterator:
    return data.make_loader(
      self.prepared,
      batch_size=self.config.batch_size,
      seed=finite.data_seed(self.config.seed, int(state.rollbacks)),
      first_step=int(state.step),
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def _ema_generator(self, state: TrainState) -> trained.Generator:
    ema = sharding.local_copy((state.ema_params, state.ema_state))
    return trained.Generator(self.config, self.program.generator, *ema)

  def _write_samples(self, step: int, state: TrainState) -> None:
    if not processes.is_first():
      return
    with self.reporter.paused("samples"):
      pictures = grids.sample_grids(self._ema_generator(state))
      kimg = step * self.config.batch_size / 1000
      grids.write_grids(self.workdir, pictures, kimg)
      picture = pictures[self.config.resolution]
      self.reporter.write_image(step, "samples", picture)


def _total_steps(config: ConfigDict) -> int:
  return round(1000 * config.total_kimg / config.batch_size)


def _compile_step(program: Program) -> tuple[Callable, float]:
  """Return the compiled step, and the seconds it took."""
  began = time.monotonic()
  lowered = program.step.lower(program.abstract_state, program.abstract_batch)
  return lowered.compile(), time.monotonic() - began


def _newest_state(checkpoints: Checkpoints, program: Program) -> TrainState:
  """Return the newest good checkpoint's state, or that of step 0."""
  # One process says which: the disk may look different to another one.
  step = checkpoints.newest_good() if processes.is_first() else None
  step = processes.from_first(-1 if step is None else step)
  if step < 0:
    return program.create_state()
  return checkpoints.restore(program.abstract_state, step)


def _make_reporter(
  config: ConfigDict, workdir: Path, state: TrainState, times: TimeRecord
):
  # Here, because it imports TensorFlow, which sampling does without.
  from msggan_jax.training.reporter import Reporter

  return Reporter(
    workdir,
    batch_size=config.batch_size,
    total_steps=_total_steps(config),
    first_step=int(state.step),
    penalty_interval=config.penalty_interval,
    tensor_names=finite.tensor_names(
      finite.step_trees(state.d_params, state.g_params)
    ),
    times=times,
  )
