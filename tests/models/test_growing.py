"""Growing networks: the ends of a fade, and its derivatives.

`tests/kernels/test_folded.py` compares their folded form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msggan_jax import kernels
from msggan_jax.algorithm import growth, losses
from msggan_jax.models import networks
from msggan_jax.models.pyramid import fade
from tests.algorithm.runs import random_arrays, small_config

PRESETS = pytest.mark.parametrize("preset", ["progan", "stylegan"])


def make(config):
  return networks.make_generator(config), networks.make_discriminator(config)


def arrays_of(network, seed, alpha):
  """Return random parameters, and a state that is the same at any size."""
  params, state = random_arrays(network, seed)
  return params, state | {"alpha": jnp.asarray(alpha)}


def images_and_scores(config, z, arrays):
  """Return G's image and D's score of it, with levels that networks have."""
  results = []
  inputs = (z,)
  for network, trees in zip(make(config), arrays, strict=True):
    parts = (
      {name: tree[name] for name in shapes}
      for tree, shapes in zip(trees, network.shapes, strict=True)
    )
    results.append(jax.jit(network.apply)(*parts, *inputs))
    inputs = (results[-1],)
  ((image,), score) = results
  return image, score


@PRESETS
def test_a_fade_goes_from_one_stage_to_the_next(preset, float64):
  """alpha 0: the stage below, doubled; 1: MSG-GAN's network of one scale."""
  whole = small_config(preset, grow_from=4, resolution=16)
  config = growth.stage(whole, 8)
  z = jax.random.normal(jax.random.key(2), (4, 4))
  at_end = {}
  for alpha in (0.0, 1.0):
    # Of all levels, of which a stage uses some.
    arrays = [arrays_of(n, i, alpha) for i, n in enumerate(make(whole))]
    at_end[alpha] = images_and_scores(config, z, arrays)
  below = images_and_scores(growth.stage(whole, 4), z, arrays)
  grown = np.asarray(below[0]).repeat(2, axis=1).repeat(2, axis=2)
  np.testing.assert_allclose(at_end[0.0][0], grown, rtol=1e-12)
  np.testing.assert_allclose(at_end[0.0][1], below[1], rtol=1e-12)
  config.grow_from = 0
  alone = images_and_scores(config, z, arrays)
  for ours, reference in zip(at_end[1.0], alone, strict=True):
    np.testing.assert_array_equal(ours, reference)
  assert not np.allclose(at_end[0.0][1], at_end[1.0][1])


@PRESETS
def test_finite_differences_through_a_fade(preset, float64):
  """Of a loss with a gradient penalty, by parameters of both networks."""
  config = small_config(preset)
  config.grow_from, config.stddev_group = 4, 2
  generator, discriminator = make(config)
  (g_params, g_state), (d_params, d_state) = (
    arrays_of(n, i, 0.3) for i, n in enumerate((generator, discriminator))
  )
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(4, 4)))
  reals = jnp.asarray(rng.normal(size=(4, 8, 8, 3)))
  epsilon = jnp.asarray(rng.uniform(size=4))

  @jax.jit
  def loss(g_params, d_params):
    def critic(pyramid):
      return discriminator.apply(d_params, d_state, pyramid)

    fakes = generator.apply(g_params, g_state, z)
    pair = (fade(g_state["alpha"], reals, kernels.downsample(reals)),), fakes
    penalty = losses.gradient_penalty(critic, *pair, epsilon)
    return critic(fakes).sum() + penalty.mean()

  gradients = jax.jit(jax.grad(loss, (0, 1)))(g_params, d_params)
  params, h = (g_params, d_params), 1e-6
  for place, name in ((i, name) for i in (0, 1) for name in params[i]):
    ours = params[place][name]
    way = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), ours)

    def at(by, place=place, name=name, ours=ours, way=way):
      both = [*params]
      moved = jax.tree.map(lambda x, d: x + by * d, ours, way)
      both[place] = params[place] | {name: moved}
      return loss(*both)

    slopes = jax.tree.map(jnp.vdot, gradients[place][name], way)
    difference = (at(h) - at(-h)) / (2 * h)
    slope = sum(jax.tree.leaves(slopes))
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)


def test_styles_are_mixed_in_training_alone(float64):
  """As often as asked for, from a random layer up to the highest on."""
  config = small_config("stylegan", resolution=16)
  generator, _ = make(config)
  params, state = arrays_of(generator, 0, 1.0)
  z = jax.random.normal(jax.random.key(2), (200, 4))
  keys = jax.random.split(jax.random.key(3), 200)

  def layers(config, **options):
    """Return the layers' w that the network would draw with."""
    network = networks.make_generator(config)
    module = nnx.merge(network.graphdef, params, state)
    module.synthesize = lambda w, noise: module.for_layers(w)
    return np.asarray(module(z, noise=keys, **options))

  mean = lambda w: w.mean(axis=0, keepdims=True)
  w = layers(config)
  assert (w == w[:, :1]).all()
  mixed = layers(config, batch_mean=mean)
  crossovers = (mixed == w).all(axis=-1).sum(axis=1)
  assert (mixed[:, 0] == w[:, 0]).all()
  counts = np.bincount(crossovers, minlength=7)
  assert set(np.flatnonzero(counts)) == {1, 2, 3, 4, 5, 6}
  assert 0.04 < counts[6] / 200 < 0.18  # one of ten is not mixed
  for row, crossover in zip(mixed, crossovers, strict=True):
    assert (row[crossover:] == row[-1]).all()
  config.style_mixing = 0.0
  assert (layers(config, batch_mean=mean) == w).all()
