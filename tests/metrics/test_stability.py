"""Stability: the change of fixed latents' images."""

import jax
import numpy as np

from msggan_jax import metrics
from msggan_jax.checkpoints import trained
from msggan_jax.models import networks


def test_stability(tiny_config):
  """The mean squared change per scale; it resumes after a restart."""
  config = tiny_config
  config.resolution = 8
  network = networks.make_generator(config)
  params, state = jax.jit(network.init)(jax.random.key(0))
  generators = [
    trained.Generator(
      config, network, jax.tree.map(lambda x, s=scale: x * s, params), state
    )
    for scale in (1.0, 1.1, 1.3)
  ]
  whole = metrics.Stability(generators[0])
  first, second = (whole.update(generator) for generator in generators[1:])
  assert list(first) == ["stability/4", "stability/8"]
  resumed = metrics.Stability(generators[1])
  assert resumed.update(generators[2]) == second
  assert resumed.update(generators[2]) == {"stability/4": 0, "stability/8": 0}

  key = jax.random.fold_in(jax.random.key(config.seed), 2**31 - 2)
  z = generators[0].sample_latents(key, 36)
  pyramids = [generator(z) for generator in generators[:2]]
  expected = np.mean((np.asarray(pyramids[0][0] - pyramids[1][0])) ** 2)
  np.testing.assert_allclose(first["stability/4"], expected, rtol=1e-4)
