"""The paper in one file trains as the package does, and from its command."""

import functools
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from msggan_jax.algorithm import randomness
from tests.algorithm.runs import Run, assert_same

EXAMPLES = Path(__file__).parents[1] / "examples"


def to_example(g_params):
  """Name G's first layer as the example does."""
  g_params = jax.tree.map(np.array, g_params)
  block = g_params["block_4x4"]
  kernel, bias = block["dense"]["kernel"], block["bias"]
  g_params["block_4x4"] = {
    "conv_0": {"kernel": kernel.reshape(len(kernel), 4, 4, -1), "bias": bias},
    "conv_1": block["conv"],
  }
  return g_params


def make_draw(run):
  """Return (state, images) -> mirrored images, z and epsilon of a step."""

  def draw(state, images):
    keys = randomness.step_keys(run.config.seed, state)
    size = len(images)
    z, _ = randomness.draw_inputs(
      keys.d_fakes, size, run.config.latent_size, normalize=True
    )
    images = randomness.random_mirror(keys.mirror, images)
    return images, z, randomness.draw_epsilon(keys.epsilon, size)

  draw = jax.shard_map(
    draw,
    mesh=run.mesh,
    in_specs=(jax.P(), jax.P("data")),
    out_specs=jax.P("data"),
  )
  return jax.jit(draw)


def test_three_steps_are_the_packages_on_eight_devices(tiny_config, float64):
  """The same parameters, reals, latents and epsilon; float64."""
  tiny_config.resolution = 8
  run = Run(tiny_config, 8)
  example = runpy.run_path(str(EXAMPLES / "msg_gan.py"))
  optimizer = optax.rmsprop(tiny_config.learning_rate, **example["RMSPROP"])
  state = example["init_state"](
    to_example(run.state.g_params),
    jax.tree.map(np.array, run.state.d_params),
    optimizer,
  )
  kimg = tiny_config.batch_size / 1000
  train_step = functools.partial(
    example["train_step"],
    optimizer=optimizer,
    ema_decay=0.5 ** (kimg / tiny_config.ema_kimg),
  )
  train_step, draw = jax.jit(train_step), make_draw(run)
  for step in range(3):
    batch = run.batch(step)
    inputs = jax.device_get(draw(run.state, batch["image"]))
    with jax.numpy_rank_promotion("allow"):
      state, metrics = train_step(state, *inputs)
    run.state, run_metrics = run.step(run.state, batch)
    penalties = [
      run_metrics.values[f"gradient_penalty/{scale}"] for scale in (4, 8)
    ]
    penalty = np.mean(jax.device_get(penalties))
    assert metrics["gradient_penalty"] == pytest.approx(penalty, rel=1e-9)
  for name in ("g_params", "d_params", "ema_params"):
    ours = getattr(run.state, name)
    ours = ours if name == "d_params" else to_example(ours)
    assert_same(ours, state[name])


def call(monkeypatch, script, *options):
  """Run a script of the examples in this process."""
  monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
  with jax.numpy_rank_promotion("allow"):
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_the_commands_draw_cats_and_train_on_them(tmp_path, monkeypatch):
  cats, output = tmp_path / "cats", tmp_path / "run"
  drawing = f"--output={cats}", "--resolution=16", "--count=5"
  call(monkeypatch, "draw_cats.py", *drawing)
  assert len(list(cats.glob("*.png"))) == 5
  call(
    monkeypatch,
    "msg_gan.py",
    *(f"--images={cats}", f"--output={output}", "--resolution=8"),
    *("--latent_size=4", "--max_channels=4", "--batch_size=4", "--kimg=0.008"),
  )
  for r in (4, 8):
    with Image.open(output / f"0000.01kimg_{r}x{r}.png") as grid:
      assert grid.size == (64, 64)
  with np.load(output / "generator.npz") as weights:
    assert weights["block_8x8.conv_1.kernel"].shape == (3, 3, 4, 4)
    assert all(np.isfinite(array).all() for array in weights.values())


def test_bad_input_ends_in_a_sentence(tmp_path, monkeypatch, capsys):
  empty, bad = tmp_path / "empty", tmp_path / "bad"
  for folder in (empty, bad):
    folder.mkdir()
  (bad / "cat.png").write_bytes(b"no image")
  for images, option, sentence in (
    (empty, "--resolution=33", "--resolution=33; give 8, 16, ... 1024"),
    (empty, "--batch_size=6", "--batch_size=6; give a multiple of 4"),
    (empty, "--kimg=0", "--kimg=0.0; give more than 0"),
    (empty, "--kimg=0.01", "--kimg=0.01 is less than a batch; give more"),
    (empty, "--seed=0", "has no images"),
    (bad, "--seed=1", "cat.png is unusable, remove it"),
  ):
    with pytest.raises(SystemExit) as error:
      call(monkeypatch, "msg_gan.py", f"--images={images}", option)
    message = capsys.readouterr().err
    assert error.value.code == 2
    assert message.startswith("error: ") and message.count("\n") == 1
    assert sentence in message
