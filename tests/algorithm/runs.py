"""Small configurations, and runs of their training step."""

import jax
import numpy as np

from msggan_jax import kernels
from msggan_jax.algorithm import program
from msggan_jax.runtime import sharding
from tests.conftest import load_config
from tests.models.test_networks import random_arrays


def small_config(preset="msg_progan", **changes):
  """Return a preset at 8x8 with 4 channels."""
  config = load_config("default", preset)
  config.resolution, config.latent_size = 8, 4
  config.base_channels, config.max_channels = 32, 4
  config.w_size = config.mapping_size = 4
  config.mapping_layers = 2
  config.batch_size = 8
  config.update(changes)
  return config


class Run:
  """Random parameters and the compiled step on some of the devices."""

  def __init__(self, config, num_devices=1, forms=kernels.BY_PLATFORM):
    self.config = config
    self.mesh = sharding.make_mesh(jax.devices()[:num_devices])
    run = program.make_program(config, self.mesh)
    arrays = random_arrays(run.generator), random_arrays(run.discriminator, 1)
    self.start = jax.tree.map(np.array, run.assemble(*arrays))
    self.state = jax.device_put(self.start, sharding.replicated(self.mesh))
    self.step = run._step(forms)

  def batch(self, step=0):
    batch = make_batch(self.config, step)
    return sharding.put_batch(self.mesh, batch)

  def train(self, steps):
    for step in range(steps):
      self.state, self.metrics = self.step(self.state, self.batch(step))
    return self


def make_batch(config, step=0):
  rng = np.random.default_rng(step)
  size, r = config.batch_size, config.resolution
  return {
    "image": rng.integers(0, 256, (size, r, r, 3), np.uint8),
    "label": rng.integers(0, config.num_classes or 1, size, np.int32),
  }


def assert_equal(ours, reference):
  """Compare trees of arrays byte by byte."""
  for a, b in zip(*map(jax.tree.leaves, (ours, reference)), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_same(ours, reference, tolerance=1e-9):
  """Compare trees of arrays, each by the norm of its error."""

  def check(path, a, b):
    a, b = np.asarray(a), np.asarray(b)
    error = np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-30)
    assert error < tolerance, (jax.tree_util.keystr(path), error)

  jax.tree_util.tree_map_with_path(check, ours, reference)
