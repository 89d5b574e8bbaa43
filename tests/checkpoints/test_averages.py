"""Files of averages: kept, pruned, damaged, and made into others."""

import jax
import numpy as np
import pytest

import msggan_jax
from msggan_jax.algorithm.averaging import WIDTHS, exponent
from msggan_jax.checkpoints import averages
from msggan_jax.config import saved
from msggan_jax.models import networks
from tests.algorithm.runs import assert_same, small_config


@pytest.fixture
def run(tmp_path):
  """A run whose parameters move along a line: theta(t) = start + t / 100."""
  config = small_config("msg_stylegan", batch_size=8)
  saved.save_config(config, tmp_path)
  network = networks.make_generator(config)
  params, state = jax.device_get(jax.jit(network.init)(jax.random.key(0)))

  def at(place):
    return jax.tree.map(lambda x: x + 0.01 * place, params)

  averages.save(tmp_path, 0, (params,) * len(WIDTHS), state)
  for step in (50, 100, 150, 200):
    means = []
    for width in WIDTHS:
      shares = (np.arange(step + 1) / step) ** (exponent(width) + 1)
      means.append(np.diff(shares, prepend=0.0) @ np.arange(step + 1))
    averages.save(tmp_path, step, tuple(map(at, means)), state)
  return tmp_path, at


def exponential_mean(step, decay):
  weights = (1 - decay) * decay ** np.arange(step)[::-1]
  return weights @ np.arange(1, step + 1)


def test_a_generator_with_another_average(run):
  (workdir, at), step, ema_kimg = run, 150, 0.08
  generator = msggan_jax.load_generator(workdir, step, ema_kimg=ema_kimg)
  decay = 0.5 ** (8 / (1000 * ema_kimg))
  expected = at(exponential_mean(step, decay))
  assert_same(generator.params, expected, tolerance=1e-3)
  images = generator(generator.sample_latents(jax.random.key(0), 2))
  assert images[-1].shape == (2, 8, 8, 3)


def test_damaged_averages_are_skipped_or_named(run):
  workdir, _ = run
  file = workdir / "averages" / "100" / "averages.safetensors"
  file.write_bytes(file.read_bytes()[:-1])
  msggan_jax.load_generator(workdir, ema_kimg=0.2)
  with pytest.raises(ValueError, match="averages of step 100 or of step 0"):
    msggan_jax.load_generator(workdir, 100, ema_kimg=0.2)


def test_bad_requests_end_in_a_sentence(run, tmp_path):
  workdir, _ = run
  load = msggan_jax.load_generator
  with pytest.raises(ValueError, match=r"ema_kimg is 0.0; choose a number abo"):
    load(workdir, ema_kimg=0.0)
  with pytest.raises(FileNotFoundError, match=r"step 7; there are \[50, 1"):
    load(workdir, 7, ema_kimg=1.0)
  averages.delete_from(workdir, 0)
  with pytest.raises(FileNotFoundError, match="keeps no averages.*config.ema_"):
    load(workdir, ema_kimg=1.0)
  with pytest.raises(ValueError, match="is one file; ema_kimg needs"):
    load(workdir / "config.json", ema_kimg=1.0)


def test_as_many_stay_as_five_percent_of_growth(tmp_path):
  tree = {"w": np.zeros(1, np.float32)}
  for step in range(0, 200, 4):
    averages.save(tmp_path, step, (tree,) * len(WIDTHS), {})
  steps = averages._steps(tmp_path)
  assert steps[:3] == [0, 4, 8] and steps[-1] == 196
  # Of 29 steps from 84 to 196, log(196 / 84) / log(1.05) = 17 parts have one.
  assert 16 <= len([step for step in steps if step >= 84]) <= 19
  averages.delete_from(tmp_path, 100)
  assert max(averages._steps(tmp_path)) < 100
