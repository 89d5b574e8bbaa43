"""Start a run from other weights; freeze the discriminator's first blocks."""

import math

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from msggan_jax import load_generator
from msggan_jax.algorithm.program import make_program
from msggan_jax.algorithm.train_state import (
  check_frozen,
  freeze,
  frozen_modules,
)
from msggan_jax.checkpoints import checkpoint, fine_tuning
from msggan_jax.checkpoints.fine_tuning import COPIED, DROPPED, NEW
from msggan_jax.config import saved
from msggan_jax.data.values import Range
from msggan_jax.runtime import sharding
from msggan_jax.sharing import portable
from msggan_jax.training import loop
from tests.algorithm.runs import assert_equal, random_arrays
from tests.conftest import contents


@pytest.fixture
def config(tiny_config):
  tiny_config.resolution = 8
  return tiny_config


PROGRAMS = {}


def program_of(config):
  """Return a program that draws its state with NumPy: nothing is compiled."""
  if str(config) not in PROGRAMS:
    mesh = sharding.make_mesh(jax.devices()[:1])
    program = PROGRAMS[str(config)] = make_program(changed(config), mesh)

    def draw():
      g = random_arrays(program.generator, program.config.seed)
      d = random_arrays(program.discriminator, program.config.seed + 1)
      return jax.device_put(program.assemble(g, d), sharding.replicated(mesh))

    vars(program)["create_state"] = draw
  return PROGRAMS[str(config)]


def changed(config, **fields):
  config = ConfigDict(config).copy_and_resolve_references()
  config.update(fields)
  return config


def ema_of(config):
  g_params = program_of(config).create_state().g_params
  return jax.tree.map(lambda x: np.asarray(x) + 1, g_params)


@pytest.fixture
def source(config, tmp_path):
  """A run's folder whose EMA differs from its generator."""
  return save(config, tmp_path / "source")


def save(config, workdir):
  state = program_of(config).create_state()
  state = state.replace(ema_params=ema_of(config), step=state.step + 7)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.save(7, state)
  saved.save_config(config, workdir)
  return workdir


def start_from(source, config):
  return fine_tuning.start_from(source, program_of(config))


def fates(lines):
  """Return the fate of each tensor in a table."""
  rows = [line.split() for line in lines]
  return {row[1]: row[0] for row in rows if row[0] in (COPIED, NEW, DROPPED)}


def test_everything_fits_the_same_networks(config, source, tmp_path):
  before = contents(source)
  new = changed(config, seed=5)
  state, lines = start_from(source, new)
  assert_equal(state.g_params, ema_of(config))
  assert_equal(state.ema_params, ema_of(config))
  assert_equal(state.d_params, program_of(config).create_state().d_params)
  assert int(state.step) == 0
  assert_equal(
    state.g_opt_state, program_of(new).optimizer.init(state.g_params)
  )
  assert set(fates(lines).values()) == {COPIED}
  assert sum("100.0% of" in line for line in lines) == 2
  assert contents(source) == before

  file = tmp_path / "weights.safetensors"
  portable.export(source, file, with_discriminator=True)
  from_file, _ = start_from(file, new)
  assert_equal(from_file, state)
  alone = tmp_path / "generator.safetensors"
  portable.export(source, alone)
  state, lines = start_from(alone, new)
  assert "has no discriminator: it starts anew" in lines[-1]
  assert_equal(state.d_params, program_of(new).create_state().d_params)


def test_the_resolution_grows(config, source):
  new = changed(config, resolution=16, seed=5)
  program = program_of(new)
  meters = Range((0.0,), (9.0,), ("m",))
  state, lines = fine_tuning.start_from(source, program, meters)
  assert lines[-1] == "the images are 0 to 9 m, in the source colors"
  initial = program.create_state()
  ema = ema_of(config)
  d_params = program_of(config).create_state().d_params
  fate = fates(lines)
  assert fate["generator/block_4x4/conv/kernel"] == COPIED
  assert_equal(state.g_params["block_4x4"], ema["block_4x4"])
  assert fate["discriminator/from_rgb_8x8/kernel"] == DROPPED
  top = "from_rgb_16x16"
  assert fate[f"discriminator/{top}/kernel"] == NEW
  assert_equal(state.d_params[top], initial.d_params[top])
  assert_equal(state.d_params["block_4x4"], d_params["block_4x4"])
  assert_equal(state.g_params["to_rgb_8x8"], ema["to_rgb_8x8"])
  # The image of 8x8 enters its block now: three more channels.
  assert any(
    "block_8x8/conv_0/kernel" in line and "(in the source 3x3x9x8)" in line
    for line in lines
  )
  assert "config.resolution is 16, in the source 8" in lines


def test_other_labels_and_another_phi(config, source):
  new = changed(config, num_classes=3, combine="cat_lin")
  state, lines = start_from(source, new)
  fate = fates(lines)
  assert fate["generator/label_embedding"] == NEW
  assert fate["generator/block_8x8/conv_0/kernel"] == COPIED
  assert "config.combine is 'cat_lin', in the source 'simple'" in lines
  rows = [line.split() for line in lines]
  for name, params in (
    ("generator", state.g_params),
    ("discriminator", state.d_params),
  ):
    shapes = [
      map(int, row[2].split("x"))
      for row in rows
      if row[0] == COPIED and row[1].startswith(name)
    ]
    copied = sum(map(math.prod, shapes))
    total = sum(x.size for x in jax.tree.leaves(params))
    assert 0 < copied < total
    share = f"{name}: {copied / total:.1%} of {total:,} parameters copied; "
    assert any(line.startswith(share) for line in lines)


RESCALED = (
  ({"linear_gain": 2**0.5}, {"linear_gain": 1.0}),
  ({"equalized": False}, {"equalized": True}),
  # Residual blocks are scaled by the depth of their network.
  ({"model": "residual", "stddev_placement": "none"}, {"resolution": 16}),
)


@pytest.mark.parametrize(("theirs", "ours"), RESCALED)
def test_kernels_are_rescaled_to_do_the_same(config, tmp_path, theirs, ours):
  """The scales of both networks have the source's images."""
  config.update(theirs)
  source = save(config, tmp_path / "source")
  new = changed(config, seed=5, **ours)
  state, lines = start_from(source, new)
  assert any("(times " in line for line in lines)
  generator = load_generator(source)
  z = generator.sample_latents(jax.random.key(0), 4)
  pyramid = program_of(new).generator.jitted_apply(
    state.g_params, state.g_state, z
  )
  for x, y in zip(generator(z), pyramid, strict=False):
    np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-4)


def test_another_architecture_is_refused_with_its_flags(config, source):
  for fields, message in (
    ({"model": "stylegan"}, r"architecture; choose --config\.model=progan, or"),
    (
      {"pixel_norm": False, "output_activation": "tanh"},
      r"choose --config\.pixel_norm=True --config\.output_activation=linear,",
    ),
    ({"normalize_latents": False}, r"--config\.normalize_latents=True"),
    (
      # to_rgb's biases would fit.
      {"max_channels": 6, "latent_size": 6},
      r"no kernel of the generator in .*; choose --config\.latent_size=8 "
      r"--config\.max_channels=8$",
    ),
  ):
    with pytest.raises(ValueError, match=message) as error:
      start_from(source, changed(config, **fields))
    assert "\n" not in str(error.value)
  # As many pixels in another order; others have other shapes.
  saved.save_config(changed(config, base_grid="4x3"), source)
  with pytest.raises(ValueError, match=r"choose --config\.base_grid=4x3, or"):
    fine_tuning.check(source, changed(config, base_grid="3x4"))
  fine_tuning.check(source, changed(config, base_grid="4x5"))


def test_random_weights_are_not_frozen(config, source, tmp_path):
  with pytest.raises(ValueError, match="is 1, which would .* --init_from, or"):
    fine_tuning.check(None, changed(config, freeze_d=1))
  fine_tuning.check(None, config)
  start_from(source, changed(config, freeze_d=2))
  new = changed(config, resolution=16, freeze_d=1)
  message = "freeze discriminator/.*16x16.*choose config.freeze_d 0"
  with pytest.raises(ValueError, match=message):
    start_from(source, new)
  alone = tmp_path / "generator.safetensors"
  portable.export(source, alone)
  with pytest.raises(
    ValueError, match="with random weights: .*safetensors has"
  ):
    start_from(alone, changed(config, freeze_d=1))
  _, lines = start_from(alone, config)
  assert any(line.startswith("discriminator: 0.0% of") for line in lines)


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
  assert_equal(whole, halves)
