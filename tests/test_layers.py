"""Layers against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msggan_jax.models import layers


def test_pixel_norm_gives_unit_rms():
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 16)) * 7
  y = layers.pixel_norm(x)
  np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-5)


def test_latents_lie_on_the_hypersphere():
  z = layers.normalize_latents(jax.random.normal(jax.random.key(0), (5, 32)))
  np.testing.assert_allclose(np.linalg.norm(z, axis=-1), np.sqrt(32), rtol=1e-6)


@pytest.mark.parametrize("grouping", ["contiguous", "strided"])
def test_minibatch_stddev(grouping):
  x = np.random.default_rng(0).normal(size=(8, 2, 2, 3)).astype(np.float32)
  y = layers.minibatch_stddev(jnp.asarray(x), 4, grouping)
  np.testing.assert_array_equal(y[..., :3], x)
  for i in range(8):
    members = range(i // 4 * 4, i // 4 * 4 + 4)
    if grouping == "strided":
      members = range(i % 2, 8, 2)
    group = np.stack([x[m] for m in members])
    expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
    np.testing.assert_allclose(y[i, ..., 3], expected, rtol=1e-5)


def test_minibatch_stddev_of_equal_images_is_zero():
  y = layers.minibatch_stddev(jnp.ones((4, 2, 2, 3)), 4)
  np.testing.assert_allclose(y[..., 3], 0.0, atol=1e-3)


def test_minibatch_stddev_takes_small_batches_whole():
  x = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
  np.testing.assert_array_equal(
    layers.minibatch_stddev(x, 4), layers.minibatch_stddev(x, 2)
  )


def test_minibatch_stddev_refuses_a_batch_it_does_not_divide():
  with pytest.raises(ValueError, match="groups of 4 do not divide .* of 6"):
    layers.minibatch_stddev(jnp.ones((6, 2, 2, 3)), 4)


def test_equalized_layers_keep_the_variance():
  rngs = nnx.Rngs(params=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (16, 16, 16, 64))
  y = layers.Conv(64, 64, 3, gain=1.0, padding="VALID", rngs=rngs)(x)
  assert abs(float(y.std()) - 1) < 0.05
  y = layers.Dense(64, 256, rngs=rngs)(x[:, 0, 0])
  y = layers.leaky_relu(y)
  assert abs(float(jnp.mean(y**2)) - 1) < 0.1


def test_convolution_against_numpy():
  rngs = nnx.Rngs(params=jax.random.key(0))
  conv = layers.Conv(3, 5, 3, rngs=rngs)
  conv.bias[...] = jnp.arange(5.0)
  x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
  kernel = np.asarray(conv.kernel[...]) * np.sqrt(2 / 27)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  expected = np.zeros((2, 6, 6, 5))
  for i in range(3):
    for j in range(3):
      expected += padded[:, i : i + 6, j : j + 6] @ kernel[i, j]
  expected += np.arange(5.0)
  np.testing.assert_allclose(
    conv(jnp.asarray(x)), expected, rtol=2e-5, atol=2e-5
  )
