"""MSG-StyleGAN: names, the average of w, mixing, noise.

`tests/sharing/test_convert.py` compares the mapping network with NumPy,
`tests/checkpoints/test_golden.py` truncated images with the authors'.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.checkpoints import trained
from msggan_jax.models import networks
from msggan_jax.models.stddev import batch_mean
from msggan_jax.runtime import progress
from tests.algorithm.runs import random_arrays, small_config

SIZES = {"latent_size": 6, "w_size": 5, "mapping_size": 7, "mapping_layers": 3}


@pytest.fixture(scope="module")
def generator():
  """Return a generator with random noise maps and average of w."""
  config = small_config("msg_stylegan", **SIZES)
  network = networks.make_generator(config)
  params, state = random_arrays(network)
  state["w_avg"] = jnp.linspace(-1.0, 1.0, 5)
  return trained.Generator(config, network, params, state)


@pytest.fixture(scope="module")
def z(generator):
  return generator.sample_latents(jax.random.key(2), 4)


def same(a, b):
  return all(
    np.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in zip(a, b, strict=True)
  )


def test_names_of_parameters_and_state(generator):
  """Checkpoints have them."""

  def names(tree):
    paths = jax.tree_util.tree_leaves_with_path(tree)
    join = lambda p: jax.tree_util.keystr(p, simple=True, separator="/")
    return {join(path) for path, _ in paths}

  params, state = names(generator.params), names(generator.state)
  layers = [f"block_{r}x{r}/layer_{i}" for r in (4, 8) for i in (0, 1)]
  dense = [f"mapping/dense_{i}" for i in range(3)]
  with_bias = [
    *dense,
    "to_rgb_4x4",
    "to_rgb_8x8",
    *(f"{x}/style" for x in layers),
  ]
  assert params == {
    "block_4x4/constant",
    *(f"{x}/{name}" for x in with_bias for name in ("kernel", "bias")),
    *(f"{x}/{name}" for x in layers for name in ("noise_weight", "bias")),
    *(f"{x}/conv/kernel" for x in layers[1:]),
  }
  assert state == {"w_avg", *(f"{x}/noise" for x in layers)}


def test_average_of_w_moves_by_its_formula(generator, z):
  network = networks.make_generator(generator.config)

  @jax.jit
  def train(params, state):
    return network.apply_and_update(params, state, z, batch_mean=batch_mean)

  pyramid, state = train(generator.params, generator.state)
  w = np.asarray(generator.map_latents(z))
  expected = 0.995 * np.linspace(-1, 1, 5) + 0.005 * w.mean(axis=0)
  np.testing.assert_allclose(state["w_avg"], expected, rtol=1e-5, atol=1e-7)
  assert same(pyramid, generator(z))
  # Without batch_mean the average stays. Noise maps always stay.
  update = jax.jit(network.apply_and_update)
  _, unmoved = update(generator.params, generator.state, z)
  jax.tree.map(np.testing.assert_array_equal, unmoved, generator.state)
  state["w_avg"] = generator.state["w_avg"]
  jax.tree.map(np.testing.assert_array_equal, state, generator.state)


def test_style_mixing(generator, z):
  w = generator.map_latents(z)
  mixed = generator.mix_styles(w, w[::-1], 2)
  assert mixed.shape == (4, 4, 5)
  pyramid, unmixed = generator.synthesize(mixed), generator(z)
  # Layers 0 and 1 belong to 4x4.
  assert same(pyramid[:1], unmixed[:1])
  assert not same(pyramid[1:], unmixed[1:])


def test_noise(generator, z):
  fixed = generator(z)
  assert same(fixed, generator(z, noise="fixed"))
  key = jax.random.key(3)
  drawn = generator(z, noise=key)
  assert not same(fixed[:1], drawn[:1])
  assert same(drawn, generator(z, noise=key))
  assert not same(drawn[:1], generator(z, noise=jax.random.key(4))[:1])
  # The noise of an example is independent of its batch.
  whole = progress.map_batches(
    lambda z, keys: generator(z, noise=keys),
    *(z, trained.example_keys(key, len(z))),
    batch_size=2,
  )
  assert same(drawn, whole)
  # Equal latents differ only by their noise.
  twice = jnp.concatenate([z[:1], z[:1]])
  first, second = generator(twice, noise=key)[-1]
  assert float(jnp.abs(first - second).max()) > 1e-3
