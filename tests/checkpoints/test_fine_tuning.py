"""Start a run from other weights; freeze the discriminator's first blocks."""

import jax
import numpy as np
import pytest

from msggan_jax.algorithm.program import make_program
from msggan_jax.algorithm.train_state import (
  check_frozen,
  freeze,
  frozen_modules,
)
from msggan_jax.checkpoints import checkpoint, fine_tuning
from msggan_jax.checkpoints.fine_tuning import COPIED, DROPPED, NEW
from msggan_jax.config import saved
from msggan_jax.runtime import sharding
from msggan_jax.sharing import portable
from msggan_jax.training import loop


@pytest.fixture
def config(tiny_config):
  tiny_config.resolution = 8
  return tiny_config


PROGRAMS = {}  # what draws their states is compiled once


def program_of(config):
  mesh = sharding.make_mesh(jax.devices()[:1])
  program = make_program(changed(config), mesh)
  return PROGRAMS.setdefault(str(config), program)


def changed(config, **fields):
  config = config.copy_and_resolve_references()
  config.update(fields)
  return config


def ema_of(config):
  g_params = program_of(config).create_state().g_params
  return jax.tree.map(lambda x: np.asarray(x) + 1, g_params)


@pytest.fixture
def source(config, tmp_path):
  """A run's folder whose EMA differs from its generator."""
  workdir = tmp_path / "source"
  state = program_of(config).create_state()
  state = state.replace(ema_params=ema_of(config), step=state.step + 7)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.save(7, state)
  saved.save_config(config, workdir)
  return workdir


def contents(folder):
  return {
    path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
  }


def start_from(source, config):
  return fine_tuning.start_from(source, program_of(config), config)


def fates(lines):
  """Return the fate of each tensor in a table."""
  rows = [line.split() for line in lines]
  return {row[1]: row[0] for row in rows if row[0] in (COPIED, NEW, DROPPED)}


def assert_same(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_everything_fits_the_same_networks(config, source, tmp_path):
  before = contents(source)
  new = changed(config, seed=5)
  state, lines = start_from(source, new)
  assert_same(state.g_params, ema_of(config))
  assert_same(state.ema_params, ema_of(config))
  assert_same(state.d_params, program_of(config).create_state().d_params)
  assert int(state.step) == 0
  assert_same(state.g_opt_state, program_of(new).optimizer.init(state.g_params))
  assert set(fates(lines).values()) == {COPIED}
  assert contents(source) == before

  file = tmp_path / "weights.safetensors"
  portable.export(source, file, with_discriminator=True)
  from_file, _ = start_from(file, new)
  assert_same(from_file, state)
  alone = tmp_path / "generator.safetensors"
  portable.export(source, alone)
  state, lines = start_from(alone, new)
  assert "has no discriminator: it starts anew" in lines[-1]
  assert_same(state.d_params, program_of(new).create_state().d_params)


def test_the_resolution_grows(config, source):
  new = changed(config, resolution=16, seed=5)
  program = program_of(new)
  state, lines = fine_tuning.start_from(source, program, new)
  initial = program.create_state()
  ema = ema_of(config)
  d_params = program_of(config).create_state().d_params
  fate = fates(lines)
  assert fate["generator/block_4x4/conv/kernel"] == COPIED
  assert_same(state.g_params["block_4x4"], ema["block_4x4"])
  assert fate["discriminator/from_rgb_8x8/kernel"] == DROPPED
  top = "from_rgb_16x16"
  assert fate[f"discriminator/{top}/kernel"] == NEW
  assert_same(state.d_params[top], initial.d_params[top])
  assert_same(state.d_params["block_4x4"], d_params["block_4x4"])
  assert_same(state.g_params["to_rgb_8x8"], ema["to_rgb_8x8"])
  # The image of 8x8 enters its block now: three more channels.
  assert any(
    "block_8x8/conv_0/kernel" in line and "(in the source 3x3x9x8)" in line
    for line in lines
  )
  assert "config.resolution is 16, in the source 8" in lines


def test_other_labels_and_other_functions(config, source):
  new = changed(config, num_classes=3, combine="cat_lin", pixel_norm=False)
  _, lines = start_from(source, new)
  fate = fates(lines)
  assert fate["generator/label_embedding"] == NEW
  assert fate["generator/block_8x8/conv_0/kernel"] == COPIED
  assert "config.pixel_norm is False, in the source True" in lines


def test_another_architecture_is_refused(config, source):
  other = {"max_channels": 6, "latent_size": 6, "channels": 1}
  for fields, message in (
    ({"model": "stylegan"}, r"config\.model 'progan' and not 'stylegan'"),
    (other, "no tensor of the generator"),
  ):
    with pytest.raises(ValueError, match=message) as error:
      start_from(source, changed(config, **fields))
    assert "\n" not in str(error.value)


def test_missing_and_damaged_sources_are_refused(config, tmp_path):
  with pytest.raises(FileNotFoundError, match="it does not exist"):
    fine_tuning.check(tmp_path / "nothing", config)
  (tmp_path / "a.safetensors").write_bytes(b"no weights")
  with pytest.raises(ValueError, match="is not a weight file"):
    fine_tuning.check(tmp_path / "a.safetensors", config)


def test_frozen_blocks_have_no_gradient(config):
  with pytest.raises(ValueError, match="has 2 blocks; choose 0 to 2"):
    check_frozen(changed(config, freeze_d=3))
  program = program_of(config)
  state, network = program.create_state(), program.discriminator
  config.freeze_d = 1
  pyramid = tuple(jax.numpy.ones((4, r, r, 3)) for r in (4, 8))

  @jax.jit
  @jax.grad
  def gradient(params):
    scores = network.apply(freeze(config, params), state.d_state, pyramid)
    return scores.sum()

  grads = gradient(state.d_params)
  zero = {
    name
    for name, module in grads.items()
    if not any(np.any(leaf) for leaf in jax.tree.leaves(module))
  }
  assert zero == {"from_rgb_8x8", "block_8x8"} == {*frozen_modules(config)}


@pytest.mark.slow
def test_a_fine_tuned_run_resumes_without_its_source(
  config, source, tmp_path, capfd
):
  config.freeze_d = 1
  config.total_kimg = 0.064  # two steps
  config.log_kimg = config.snapshot_kimg = 0.032
  whole = loop.train(config, tmp_path / "whole", init_from=str(source))
  config.total_kimg = 0.032
  loop.train(config, tmp_path / "halves", init_from=str(source))
  assert "tensors: " in capfd.readouterr().out
  for file in source.rglob("*.json"):
    file.unlink()
  config.total_kimg = 0.064
  halves = loop.train(config, tmp_path / "halves", init_from=str(source))
  assert "tensors: " not in capfd.readouterr().out
  assert_same(whole, halves)
