"""Runs that grow: stages, fades, kills, and files made from every stage."""

import jax
import numpy as np
import pytest

import msggan_jax
from msggan_jax.algorithm import growth
from msggan_jax.algorithm.program import make_program
from msggan_jax.checkpoints import checkpoint, fine_tuning, safetensors_file
from msggan_jax.reporting import page, records
from msggan_jax.runtime import jsonl, sharding
from msggan_jax.sharing import portable
from msggan_jax.training import loop, replay
from tests.algorithm.runs import (
  Run,
  assert_equal,
  assert_same,
  numbers_of,
  small_config,
)
from tests.conftest import load_config

KIMG = (0.032, 0.064, 0.128, 0.192, 0.256)  # after each step


pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def config(tiny_config):
  """Two steps of 32 images at 4x4, a fade of two of 64, one at 8x8."""
  of_run = tiny_config.dataset
  config = load_config("default", "progan")
  config.dataset.update(of_run)
  config.resolution, config.latent_size, config.max_channels = 8, 8, 8
  config.base_channels = 64
  config.batch_size = 32
  config.grow_batch_sizes, config.grow_learning_rates = "8:64", "8:0.002"
  config.grow_stable_kimg, config.grow_fade_kimg = KIMG[1], 2 * 0.064
  config.total_kimg = KIMG[-1]
  config.log_kimg, config.sample_kimg = 0.001, 0.128
  config.snapshot_kimg, config.keep, config.ema_averages = 0.064, 9, True
  config.eval_kimg = 0.064
  config.extractor = "tests.golden_metrics.mean_colors:mean_colors"
  config.metrics = "fd_mean_colors_64_full"
  return config


class Killed(BaseException):
  """Stands for SIGKILL: nothing is saved."""


def test_a_run_grows_and_resumes_in_a_fade(config, tmp_path, monkeypatch):
  whole = loop.train(config, tmp_path / "whole")
  add, killed_at = loop.Reporter.add, [2, 4]  # the last of 4x4; in the fade

  def kill(reporter, step, metrics):
    add(reporter, step, metrics)
    if killed_at and step == killed_at[0]:
      killed_at.pop(0)
      reporter._events.close()
      raise Killed

  monkeypatch.setattr(loop.Reporter, "add", kill)
  for _ in range(2):
    with pytest.raises(Killed):
      loop.train(config, tmp_path / "killed")
  killed = loop.train(config, tmp_path / "killed")
  assert_equal(whole, killed)
  rows = numbers_of(tmp_path / "whole")
  assert rows == numbers_of(tmp_path / "killed")
  check_rows(rows)
  check_evaluations(tmp_path / "whole")
  check_stages(config, tmp_path)
  replay.verify(config, tmp_path / "whole", "2,4")


def check_rows(rows):
  assert [row["kimg"] for row in rows] == list(KIMG)
  alphas = [row["alpha"] for row in rows]
  assert alphas == [1, 1, 0, 0.5, 1]
  sides = [4, 4, 8, 8, 8]
  for row, side, before in zip(rows, sides, [4, *sides], strict=False):
    assert f"gradient_penalty/{side}" in row
    assert row.get(f"stability/{before}", 0) >= 0


def check_evaluations(workdir):
  """A stage is compared at its own size; only full images are the best."""
  rows = jsonl.read(workdir / "metrics.jsonl")
  name = "fd_mean_colors_64_full"
  at = [next(key for key in row if key.startswith(name)) for row in rows]
  assert at == [f"{name}/4"] + [name] * 3
  best = min(rows[1:], key=lambda row: row[name])["step"]
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    assert checkpoints.find(checkpoint.BEST) == best
  assert f"{name}/4" in page.render(records.read([str(workdir)])).decode()


def check_stages(config, folder):
  """Images, files and new runs of a checkpoint of each stage."""
  run = folder / "whole"
  for step, side in ((2, 4), (4, 8)):
    generator = msggan_jax.load_generator(run, step)
    z = generator.sample_latents(jax.random.key(0), 4)
    (images,) = generator(z)
    assert images.shape == (4, side, side, 3)
    scores = msggan_jax.load_discriminator(run, step)((images,))
    assert scores.shape == (4,) and np.isfinite(scores).all()
    path = folder / f"{step}.safetensors"
    portable.export(run, path, step, with_discriminator=True)
    _, metadata, _ = safetensors_file.read_header(path)
    assert float(metadata["kimg"]) == pytest.approx(KIMG[step - 1])
    for other in (
      msggan_jax.load_generator(path)(z),
      portable.whole(generator).call(z),
      portable.segments(generator)[-1].call(z),
    ):
      np.testing.assert_allclose(other[-1], images, rtol=1e-5, atol=1e-6)
  # In a fade, the small image shows through.
  faded = msggan_jax.load_generator(run, 4)
  assert faded.state["alpha"] == 0.5
  made = msggan_jax.load_generator(run, 4, ema_kimg=config.ema_kimg)
  np.testing.assert_allclose(made(z)[-1], faded(z)[-1], rtol=1e-3, atol=1e-3)
  program = make_program(config, sharding.make_mesh())
  state, lines = fine_tuning.start_from(folder / "2.safetensors", program)
  assert "generator/to_rgb_8x8/kernel" in "\n".join(lines)
  assert int(state.step) == 0


@pytest.mark.parametrize(
  "preset", ["progan", pytest.param("stylegan", marks=pytest.mark.slow)]
)
def test_the_penalty_does_not_jump_where_a_fade_begins(preset, float64):
  """D of a new stage is that of the stage below, behind the pooling.

  The first stage has nothing below it, and its odd rows cannot be pooled.
  """
  config = small_config(preset, resolution=16, grow_from=4, batch_size=4)
  config.base_grid = "3x4"
  config.grow_batch_sizes = config.grow_learning_rates = ""
  config.grow_stable_kimg = config.grow_fade_kimg = 0.008  # two steps
  config.total_kimg = 0.1
  run, penalties = Run(config), []
  for side in (4, 8):
    own = jax.tree.map(np.array, run.start)  # the step takes it
    own = own.replace(step=np.int32(2))
    _, metrics = run.program.at(side).step(own, run.batch())
    assert float(metrics.values["alpha"]) == (side == 4)
    penalties += [
      float(value)
      for name, value in metrics.values.items()
      if name.endswith(f"_penalty/{side}")
    ]
  assert penalties == [pytest.approx(penalties[0], rel=1e-9)] * 2


@pytest.mark.slow
def test_a_stage_is_the_same_on_any_devices(float64):
  """A step into a fade, where optimizers have begun afresh."""
  config = small_config("stylegan", resolution=16, grow_from=4, stddev_group=2)
  config.grow_batch_sizes = config.grow_learning_rates = ""
  config.grow_stable_kimg = config.grow_fade_kimg = 0.016  # two steps of 8
  config.total_kimg, config.ema_kimg = 0.08, 0.01
  states = []
  for count in (1, 4):
    run, counts = Run(config, count), []
    for step in range(4):
      program = run.program.at(growth.phase_at(config, step).resolution)
      run.state, metrics = program.step(run.state, run.batch(step))
      counts.append(int(jax.tree.leaves(run.state.g_opt_state)[0]))
    assert counts == [1, 2, 1, 2]  # Adam's steps
    assert float(metrics.values["alpha"]) == 0.5
    states.append(jax.tree.map(np.array, run.state))
  assert_same(states[1], states[0])
