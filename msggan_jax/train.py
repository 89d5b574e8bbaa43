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
  sampling,
  sharding,
)
from msggan_jax.train_state import TrainState


def train(config: ConfigDict, workdir: str | Path) -> TrainState:
  """Train, from the start or from where the workdir stands.

  Args:
    config: The configuration; see `configs/default.py`.
    workdir: The run's folder.

  Returns:
    The final state.

  Raises:
    ValueError: If the configuration is impossible or the workdir holds a run
      of another one.
    preemption.Stopped: If a signal asked to stop; the state is saved.
  """
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
      workdir / "checkpoints", keep=config.keep
    ) as checkpoints,
    preemption.Preemption() as stop,
  ):
    compiling = background.submit(compile_step)
    try:
      state = checkpoints.restore(run.abstract_state)
    except FileNotFoundError:
      state = run.create_state()
    first_step = int(state.step)

    # Here, because it imports TensorFlow, which sampling does without.
    from msggan_jax.reporting import Reporter

    reporter = Reporter(
      workdir,
      batch_size=config.batch_size,
      total_steps=total_steps,
      first_step=first_step,
      penalty_interval=config.penalty_interval,
    )
    reporter.say(f"{len(prepared)} images in {prepared.path}")
    if evaluator is None and config.eval_kimg:
      reporter.say(evaluation.WITHOUT_WEIGHTS)
    if first_step:
      reporter.say(f"resuming {workdir} at step {first_step} of {total_steps}")
    loader = data.make_loader(
      prepared,
      batch_size=config.batch_size,
      seed=config.seed,
      first_step=first_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

    def ema_generator(state: TrainState) -> sampling.Generator:
      ema = sharding.local_copy((state.ema_params, state.ema_state))
      return sampling.Generator(config, run.generator, *ema)

    def write_samples(step: int, state: TrainState) -> None:
      if not is_writer:
        return
      with reporter.paused():
        grids = sample_grids(ema_generator(state))
        write_grids(workdir, grids, step * config.batch_size / 1000)
        reporter.write_image(step, "samples", grids[config.resolution])

    if first_step == 0:
      if is_writer:
        write_reals(workdir, prepared, config)
      write_samples(0, state)
    evaluating = evaluation.Evaluation(
      workdir,
      evaluator,
      checkpoints,
      reporter,
      ema_generator(state),
      first_step,
    )

    def due(step: int, every_kimg: float) -> bool:
      """Whether the images seen pass a multiple of `every_kimg` at a step."""
      if not every_kimg:
        return False
      every = 1000 * every_kimg
      shown = config.batch_size * step
      return shown // every > (shown - config.batch_size) // every

    # If it was stopped between a checkpoint and its evaluation.
    if first_step and due(first_step, config.eval_kimg):
      evaluating.evaluate(first_step, ema_generator(state))

    compiled, secs = compiling.result()
    reporter.say(f"compiled the step in {secs:.0f} s")
    reporter.start_clock()
    for step in range(first_step + 1, total_steps + 1):
      batch = sharding.put_batch(run.mesh, next(loader))
      state, metrics = compiled(state, batch)
      reporter.add(step, metrics)
      last = step == total_steps
      evaluate = due(step, config.eval_kimg)
      # It ends a row, so that a resumed run writes the same rows.
      stopped = stop.reached(step)
      snapshot = last or stopped or evaluate or due(step, config.snapshot_kimg)
      if snapshot:
        changes = evaluating.compare(step, ema_generator(state))
        reporter.report(step, changes)
      elif due(step, config.log_kimg):
        reporter.report(step)
      if last or due(step, config.sample_kimg):
        write_samples(step, state)
      if snapshot:
        checkpoints.save(step, state)
      if stopped and not last:
        checkpoints.wait()
        reporter.close()
        raise preemption.Stopped(step)
      if evaluate:
        evaluating.evaluate(step, ema_generator(state))
    reporter.close()
  return state


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
