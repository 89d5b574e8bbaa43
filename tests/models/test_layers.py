"""Layers against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msggan_jax import kernels
from msggan_jax.models import layers
from msggan_jax.models.layers import Conv
from msggan_jax.models.stddev import MinibatchStddev


@pytest.mark.parametrize("grouping", ["contiguous", "strided"])
def test_minibatch_stddev(grouping):
  x = np.random.default_rng(0).normal(size=(8, 2, 2, 3)).astype(np.float32)
  y = MinibatchStddev(4, grouping)(jnp.asarray(x))
  np.testing.assert_array_equal(y[..., :3], x)
  for i in range(8):
    members = range(i // 4 * 4, i // 4 * 4 + 4)
    if grouping == "strided":
      members = range(i % 2, 8, 2)
    group = np.stack([x[m] for m in members])
    expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
    np.testing.assert_allclose(y[i, ..., 3], expected, rtol=1e-5)


def test_minibatch_stddev_takes_small_batches_whole():
  x = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
  np.testing.assert_array_equal(MinibatchStddev(4)(x), MinibatchStddev(2)(x))


def test_minibatch_stddev_refuses_a_batch_it_does_not_divide():
  with pytest.raises(
    ValueError,
    match="groups of 4 do not divide a batch of 6; use a multiple of 4",
  ):
    MinibatchStddev(group=4)(jnp.ones((6, 2, 2, 3)))


def test_learning_rate_multiplier_leaves_the_output_alone():
  """The initial kernel is larger by the factor that the scale is smaller."""
  key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 8))
  fast = layers.Dense(8, 8, rngs=nnx.Rngs(params=key))
  slow = layers.Dense(8, 8, lr_multiplier=0.01, rngs=nnx.Rngs(params=key))
  np.testing.assert_allclose(slow(x), fast(x), rtol=1e-5, atol=1e-6)
  assert float(slow.kernel[...].std()) > 50
  slow.bias[...] += 1.0
  np.testing.assert_allclose(slow(x) - fast(x), 0.01, rtol=1e-3)


def test_spectral_norm_finds_the_largest_singular_value():
  rngs = nnx.Rngs(params=jax.random.key(0))
  conv = Conv(
    3, 5, kernel_size=3, equalized=False, spectral_norm=True, rngs=rngs
  )
  kernel = np.asarray(conv.kernel[...])
  bound = 1 / np.sqrt(27)
  assert 0.9 * bound < np.abs(kernel).max() <= bound
  assert 0 < np.abs(np.asarray(conv.bias[...])).max() <= bound
  for _ in range(100):
    conv.power_iterate()
  sigma = np.linalg.norm(kernel.reshape(-1, 5), ord=2)
  np.testing.assert_allclose(conv.scaled_kernel(), kernel / sigma, rtol=1e-5)


def test_equalized_layers_keep_the_variance():
  rngs = nnx.Rngs(params=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (16, 16, 16, 64))
  y = Conv(64, 64, kernel_size=3, gain=1.0, padding="VALID", rngs=rngs)(x)
  assert abs(float(y.std()) - 1) < 0.05
  y = layers.Dense(64, 256, rngs=rngs)(x[:, 0, 0])
  y = kernels.leaky_relu(y)
  assert abs(float(jnp.mean(y**2)) - 1) < 0.1
