"""Whole training steps with folded rows against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax import kernels
from msggan_jax.algorithm import train_state, train_step
from msggan_jax.models import networks
from msggan_jax.runtime import sharding
from tests.algorithm.runs import small_config
from tests.models.test_networks import random_arrays


def narrow_config(preset):
  config = small_config(preset, batch_size=8, resolution=16)
  config.base_channels, config.max_channels = 128, 12
  return config


def take_steps(config, forms):
  """Return the parameters and metrics after a step in each form in turn."""
  mesh = sharding.make_mesh(jax.devices()[:1])
  optimizer = train_state.make_optimizer(config)
  made = {}
  for form in set(forms):
    pair = (
      networks.make_generator(config, form),
      networks.make_discriminator(config, form),
    )
    step = train_step.TrainStep(config, *pair, optimizer)
    made[form] = (pair, sharding.shard_step(step, mesh))
  generator, discriminator = made[forms[0]][0]
  arrays = random_arrays(generator), random_arrays(discriminator, 1)
  arrays = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)
  state = train_state.assemble(config, *arrays, optimizer)
  state = jax.device_put(state, sharding.replicated(mesh))
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.integers(0, 256, (8, 16, 16, 3), np.uint8),
    "label": np.zeros(8, np.int32),
  }
  batch = sharding.put_batch(mesh, batch)
  for form in forms:
    state, metrics = made[form][1](state, batch)
  return (state.g_params, state.d_params, state.ema_params), metrics.values


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["msg_progan", "msg_stylegan"])
def test_forms_train_alike_and_may_change(preset, float64):
  """Plain; plain, then folded as after a resume; folded in parts."""
  config = narrow_config(preset)
  by_platform, folded = kernels.BY_PLATFORM, kernels.FOLDED
  plain = take_steps(config, [by_platform, by_platform])
  changed = take_steps(config, [by_platform, folded])
  config.micro_batch_size = 4
  in_parts = take_steps(config, [folded, folded])
  for ours in (changed, in_parts):
    for a, b in zip(*map(jax.tree.leaves, (ours, plain)), strict=True):
      assert np.linalg.norm(a - b) <= 1e-9 * np.linalg.norm(b) + 1e-12
