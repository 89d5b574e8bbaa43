"""Small configurations, random networks, and runs of their training step."""

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax import kernels
from msggan_jax.algorithm import program
from msggan_jax.checkpoints import checkpoint
from msggan_jax.config import saved
from msggan_jax.models import base_grid, networks
from msggan_jax.runtime import jsonl, sharding
from tests.conftest import load_config


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


def random_arrays(network, seed=0):
  """Draw parameters and state with NumPy, which compiles nothing."""
  rng = np.random.default_rng(seed)

  def draw(path, x):
    scale = 100.0 if path[1].key == "mapping" else 1.0  # 1 / lr_multiplier
    scale *= 0.1 if path[-1].key == "bias" else 1.0
    return jnp.asarray(scale * rng.normal(size=x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, network.shapes)


def write_run(config, workdir, *steps):
  """Write a run's configuration and checkpoints of its networks; return it."""
  ema_params, ema_state = random_arrays(networks.make_generator(config))
  d_params, d_state = random_arrays(networks.make_discriminator(config), 1)
  trees = {
    **{"ema_params": ema_params, "ema_state": ema_state},
    **{"d_params": d_params, "d_state": d_state},
  }
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    for step in steps:
      checkpoints.save(step, jax.device_put(trees | {"step": np.int32(step)}))
  saved.save_config(config, workdir)
  return workdir


class Run:
  """Random parameters and the compiled step on some of the devices."""

  def __init__(self, config, num_devices=1, forms=kernels.BY_PLATFORM):
    self.config = config
    self.mesh = sharding.make_mesh(jax.devices()[:num_devices])
    run = self.program = program.make_program(config, self.mesh)
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
  """Draw a step's batch, with held-out images where there are some."""
  size, sides = config.batch_size, base_grid.size_of(config)

  def draw(seed, kind=""):
    rng = np.random.default_rng(seed)
    return {
      f"{kind}image": rng.integers(0, 256, (size, *sides, 3), np.uint8),
      f"{kind}label": rng.integers(0, config.num_classes or 1, size, np.int32),
    }

  held_out = draw(100 + step, "holdout_") if config.augment_holdout else {}
  return draw(step) | held_out


def numbers_of(workdir, but=()):
  """Return a run's rows without times, sizes and other names that begin so."""
  others = ("images_per_sec", "memory_bytes", "secs", "unix_secs", *but)
  return [
    {name: x for name, x in row.items() if not name.startswith(others)}
    for row in jsonl.read(workdir / "stats.jsonl")
  ]


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
