"""Training: builds everything, then the loop of steps, logs and snapshots."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from msggan_jax import (
  checkpoint,
  compilation,
  configuration,
  data,
  evaluation,
  images,
  memory,
  preemption,
  processes,
  program,
  recovery,
  sampling,
  sharding,
)
from msggan_jax.time_record import TimeRecord
from msggan_jax.train_state import TrainState


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
    recovery.NonFinite: If a number is not finite, however often the run goes
      back to its last checkpoint.
  """
  times = TimeRecord(time.time() if began is None else began)
  workdir = Path(workdir)
  configuration.validate(config, jax.device_count())
  configuration.check_workdir(config, workdir)
  evaluation.choose(config)
  planned = compilation.with_remat(config, jax.devices(), memory.limit_bytes())
  run = program.make_program(planned, sharding.make_mesh())

  prepared = data.open_prepared(
    data.prepare(config.dataset, config.resolution, config.channels)
  )
  processes.check_same("the data set", prepared.metadata.content_hash)
  configuration.check_classes(config, prepared.metadata.num_classes)
  evaluator = evaluation.make_evaluator(config, prepared)
  is_writer = jax.process_index() == 0
  if is_writer:
    configuration.save(config, workdir)

  total_steps = round(1000 * config.total_kimg / config.batch_size)

  def compile_step():
    began = time.monotonic()
    lowered = run.step.lower(run.abstract_state, run.abstract_batch)
    return lowered.compile(), time.monotonic() - began

  with (
    # The step compiles while all else is made ready.
    ThreadPoolExecutor(max_workers=1) as background,
    checkpoint.Checkpoints(
      workdir / "checkpoints",
      keep=config.keep,
      keep_every=1000 * config.keep_kimg / config.batch_size,
    ) as checkpoints,
    preemption.Preemption() as stop,
  ):
    compiling = background.submit(compile_step)

    def newest_state() -> TrainState:
      try:
        return checkpoints.restore(run.abstract_state)
      except FileNotFoundError:
        return run.create_state()

    state = newest_state()
    first_step = int(state.step)

    # Here, because it imports TensorFlow, which sampling does without.
    from msggan_jax.reporting import Reporter

    reporter = Reporter(
      workdir,
      batch_size=config.batch_size,
      total_steps=total_steps,
      first_step=first_step,
      penalty_interval=config.penalty_interval,
      tensor_names=recovery.tensor_names(
        recovery.step_trees(state.d_params, state.g_params)
      ),
      times=times,
    )
    reporter.say(f"{len(prepared)} images in {prepared.path}")
    if evaluator is None and config.eval_kimg:
      reporter.say(evaluation.WITHOUT_WEIGHTS)
    if first_step:
      reporter.say(f"resuming {workdir} at step {first_step} of {total_steps}")

    def loader_from(state: TrainState):
      return data.make_loader(
        prepared,
        batch_size=config.batch_size,
        seed=recovery.data_seed(config.seed, int(state.rollbacks)),
        first_step=int(state.step),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
      )

    def ema_generator(state: TrainState) -> sampling.Generator:
      ema = sharding.local_copy((state.ema_params, state.ema_state))
      return sampling.Generator(config, run.generator, *ema)

    def write_samples(step: int, state: TrainState) -> None:
      if not is_writer:
        return
      with reporter.paused("samples"):
        grids = sample_grids(ema_generator(state))
        write_grids(workdir, grids, step * config.batch_size / 1000)
        reporter.write_image(step, "samples", grids[config.resolution])

    if first_step == 0:
      if is_writer:
        write_reals(workdir, prepared, config)
      write_samples(0, state)

    def make_evaluation(state: TrainState) -> evaluation.Evaluation:
      return evaluation.Evaluation(
        workdir,
        evaluator,
        checkpoints,
        reporter,
        ema_generator(state),
        int(state.step),
      )

    def due(step: int, every_kimg: float) -> bool:
      """Whether the images seen pass a multiple of `every_kimg` at a step."""
      if not every_kimg:
        return False
      every = 1000 * every_kimg
      shown = config.batch_size * step
      return shown // every > (shown - config.batch_size) // every

    def take_steps(
      state: TrainState, evaluating: evaluation.Evaluation
    ) -> TrainState:
      """Take all steps that are left."""
      # If it was stopped between a checkpoint and its evaluation.
      if state.step > 0 and due(int(state.step), config.eval_kimg):
        evaluating.evaluate(int(state.step), ema_generator(state))
      loader = loader_from(state)
      for step in range(int(state.step) + 1, total_steps + 1):
        with times.during("data"):
          batch = sharding.put_batch(run.mesh, next(loader))
        state, metrics = compiled(state, batch)
        reporter.add(step, metrics)
        last = step == total_steps
        evaluate = due(step, config.eval_kimg)
        sample = last or due(step, config.sample_kimg)
        # It ends a row, so that a resumed run writes the same rows.
        stopped = stop.reached(step)
        snapshot = (
          last or stopped or evaluate or due(step, config.snapshot_kimg)
        )
        if snapshot or sample:
          reporter.check()
        if snapshot:
          recovery.check_state(step, state)
          changes = evaluating.compare(step, ema_generator(state))
          reporter.report(step, changes)
          reporter.flush()  # no checkpoint is there before its row
        elif due(step, config.log_kimg):
          reporter.report(step)
        if sample:
          write_samples(step, state)
        if snapshot:
          with times.during("checkpoint"):
            checkpoints.save(step, state)
        if stopped and not last:
          raise preemption.Stopped(step)
        if evaluate:
          evaluating.evaluate(step, ema_generator(state))
      return state

    def finish() -> None:
      """Wait for what is still being written, and say where the time went."""
      reporter.flush()
      with times.during("checkpoint"):
        checkpoints.wait()
      reporter.say(f"time: {times.describe()}")
      reporter.close()

    evaluating = make_evaluation(state)
    with times.during("compile"):
      compiled, secs = compiling.result()
    reporter.say(f"compiled the step in {secs:.0f} s")
    times.switch_to("step")
    errors = []  # since the checkpoint that the run goes back to
    while True:
      begun = int(state.step)
      try:
        state = take_steps(state, evaluating)
        finish()
        return state
      except preemption.Stopped:
        finish()
        raise
      except recovery.NonFinite as error:
        checkpoints.wait()
        processes.wait_for_all("the checkpoint to go back to")
        state = newest_state()
        if state.step > begun:
          errors = []
        errors.append(error)
        reporter.rewind(int(state.step))
        if len(errors) > config.max_rollbacks:
          if is_writer:
            recovery.write_report(workdir, errors, state)
          finish()
          raise
        state = recovery.change_randomness(state, len(errors))
        evaluating = make_evaluation(state)
        reporter.say(
          f"{error}: back to step {int(state.step)} with other random numbers, "
          f"{len(errors)} of at most {config.max_rollbacks} times"
        )


def sample_grids(
  generator: sampling.Generator,
) -> dict[int | str, np.ndarray]:
  """Generate the fixed latents' images at every scale.

  Args:
    generator: With the EMA weights; its configuration's `seed` fixes the
      latents.

  Returns:
    uint8 pictures: under each resolution its grid, under "scales" the sheet
    of all scales of the first latents.
  """
  config = generator.config
  columns = images.grid_columns(config.resolution)
  key = jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1)
  z = generator.sample_latents(key, columns * columns)
  labels = None
  if config.num_classes:
    labels = np.arange(len(z)) % config.num_classes
  pyramid = sampling.in_batches(generator, z, batch_size=4, labels=labels)
  pyramid = [images.to_uint8(scale) for scale in pyramid]
  grids = {
    scale.shape[1]: images.grid(scale, columns=columns) for scale in pyramid
  }
  return grids | {"scales": images.scale_sheet(pyramid, examples=columns)}


def write_grids(
  workdir: Path, grids: dict[int | str, np.ndarray], kimg: float
) -> None:
  """Write `samples/<res>x<res>/<kimg>.png` and `samples/scales/<kimg>.png`."""
  for name, picture in grids.items():
    folder = name if name == "scales" else f"{name}x{name}"
    images.save_png(
      picture, workdir / "samples" / folder / f"{kimg:010.3f}.png"
    )


def write_reals(workdir: Path, prepared, config: ConfigDict) -> None:
  """Write `reals.png`: what the discriminator is shown as real."""
  columns = images.grid_columns(config.resolution)
  count = min(columns * columns, len(prepared))
  reals = np.stack([prepared[i]["image"] for i in range(count)])
  images.save_png(images.grid(reals, columns=columns), workdir / "reals.png")
