"""The fast convolution against XLA's plain one, to the second derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.models.convolution import convolve, convolve_plain


def everything(convolve, x, kernel):
  """Return the value and derivatives of a penalty-like function."""

  def critic(x, kernel):
    y = jnp.tanh(convolve(x, kernel))
    return jnp.sum(jnp.sin(y))

  def penalty(x, kernel):
    return jnp.sum(jnp.square(jax.grad(critic)(x, kernel)))

  def third(x, kernel):
    return jnp.sum(jnp.square(jax.grad(penalty, 1)(x, kernel)))

  return (
    convolve(x, kernel),
    jax.grad(critic, (0, 1))(x, kernel),
    jax.grad(penalty, (0, 1))(x, kernel),
    jax.grad(third, (0, 1))(x, kernel),
  )


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("resolution", [4, 16])
@pytest.mark.parametrize("batch", [3, 20])
def test_all_derivatives_agree(float64, size, resolution, batch):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(batch, resolution, resolution, 2)))
  kernel = jnp.asarray(rng.normal(size=(size, size, 2, 3)) / 3)
  jitted = jax.jit(everything, static_argnums=0)
  fast, plain = (jitted(f, x, kernel) for f in (convolve, convolve_plain))
  for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
