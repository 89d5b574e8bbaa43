"""Stability: the change of fixed latents' images, and its plot."""

import json

import jax
import numpy as np
from PIL import Image

from msggan_jax import metrics
from msggan_jax.checkpoints import trained
from msggan_jax.metrics import stability
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


def test_plot_of_stability(tmp_path):
  *rows, newest = [
    {
      "step": kimg,
      "kimg": kimg,
      "stability/4": 1 / kimg,
      "stability/64": 2 / kimg,
    }
    for kimg in (1, 2, 3)
  ]
  rows += [{"step": 1, "kimg": 2.5}, {"kimg": 3.0}]
  lines = [json.dumps(row) + "\n" for row in rows]
  (tmp_path / "stats.jsonl").write_text("".join(lines))
  stability.plot(tmp_path, newest)
  picture = np.asarray(Image.open(tmp_path / "stability.png"))
  assert picture.shape == (560, 880, 4)
  assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 10
