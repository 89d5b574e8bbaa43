"""Fixed latents' images: their change, and their diversity."""

import jax
import numpy as np
import pytest

from msggan_jax import data, metrics
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


def test_diversity(tiny_config, monkeypatch):
  """Of noise as the reals, of a collapse, and halfway; of a stage."""
  prepared = data.open_prepared(data.prepare(tiny_config))
  monkeypatch.setattr(metrics.Stability, "_images", lambda _, images: [images])
  noise = np.random.default_rng(1).uniform(-1, 1, (36, 16, 16, 3))
  noise = noise.astype(np.float32)
  for side in (32, 8):
    monkeypatch.setattr("msggan_jax.metrics.stability._SIDE", side)
    first = noise[:, :4, :4]
    stability = metrics.Stability(first, prepared=prepared)
    small, *ratios = (
      stability.update(images)["diversity"]
      for images in (first, noise, 0 * noise, noise / 2)
    )
    assert ratios == pytest.approx([1, 0, 0.5], abs=0.05)
    assert small > 1.5  # the reals' areas are averaged
  monkeypatch.setattr("msggan_jax.metrics.stability._FEWEST", 1000)
  assert "diversity" not in stability.update(noise)
