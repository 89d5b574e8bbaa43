"""Trained networks in the hand: load, draw latents, generate, score."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from msggan_jax import checkpoint, configuration, networks
from msggan_jax.images import Pyramid
from msggan_jax.models.layers import normalize_latents


class Generator:
  """A generator with its weights."""

  def __init__(self, config: ConfigDict, network: networks.Network, params):
    """Join a configuration, its network and a tree of parameters."""
    self.config = config
    self.params = params
    self._network = network

  def sample_latents(self, key: jax.Array, num: int) -> jax.Array:
    """Draw latents.

    Args:
      key: Randomness.
      num: How many.

    Returns:
      (num, latent_size), normal, then put on the hypersphere.
    """
    shape = (num, self.config.latent_size)
    return normalize_latents(jax.random.normal(key, shape))

  def __call__(self, z: jax.Array) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents on the hypersphere, (B, latent_size).

    Returns:
      Images per scale, low to high, (B, r, r, channels) float32, in [-1, 1]
      but for the small overshoot of a linear output; see `to_uint8`.
    """
    return self._network.jitted_apply(self.params, z)


class Discriminator:
  """A discriminator with its weights."""

  def __init__(self, config: ConfigDict, network: networks.Network, params):
    """Join a configuration, its network and a tree of parameters."""
    self.config = config
    self.params = params
    self._network = network

  def __call__(self, pyramid: Pyramid) -> jax.Array:
    """Score images.

    Args:
      pyramid: Images per scale, low to high, each (B, r, r, channels), in
        [-1, 1]; B a multiple of the minibatch stddev's group.

    Returns:
      Logits, (B,); higher means more real.
    """
    return self._network.jitted_apply(self.params, pyramid)


def load_generator(workdir: str | Path, step: int | None = None) -> Generator:
  """Load the EMA generator of a run.

  Args:
    workdir: The run's folder.
    step: Which checkpoint; None: the newest.

  Raises:
    FileNotFoundError: If there is no run or no such checkpoint.
  """
  config = configuration.load(workdir)
  network = networks.make_generator(config)
  params = _load(workdir, step, "ema_params", network)
  return Generator(config, network, params)


def load_discriminator(
  workdir: str | Path, step: int | None = None
) -> Discriminator:
  """Load the discriminator of a run; the arguments as in `load_generator`."""
  config = configuration.load(workdir)
  network = networks.make_discriminator(config)
  params = _load(workdir, step, "d_params", network)
  return Discriminator(config, network, params)


def in_batches(
  generator: Generator, z: jax.Array, batch_size: int
) -> tuple[np.ndarray, ...]:
  """Generate many images without holding more than a batch on the device.

  Args:
    generator: The generator.
    z: Latents, (N, latent_size).
    batch_size: Images at a time.

  Returns:
    Images per scale, low to high, in host memory, each (N, r, r, channels).
  """
  pyramids = [
    jax.device_get(generator(z[i : i + batch_size]))
    for i in range(0, len(z), batch_size)
  ]
  return tuple(np.concatenate(scale) for scale in zip(*pyramids, strict=True))


def _load(workdir, step, name: str, network: networks.Network):
  tree = checkpoint.abstract(
    {name: network.abstract_params()},
    jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
  )
  with checkpoint.Checkpoints(Path(workdir) / "checkpoints") as checkpoints:
    return checkpoints.restore(tree, step)[name]
