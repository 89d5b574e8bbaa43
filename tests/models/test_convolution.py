"""The fast convolutions against XLA's, up to the third derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.models import convolution
from msggan_jax.models.convolution import (
  convolve,
  convolve_downsample_strided,
  convolve_narrow,
  convolve_plain,
  upsample_convolve,
  upsample_convolve_dilated,
)
from msggan_jax.models.pyramid import downsample, upsample


def everything(convolve, x, kernel):
  """Return the value and the derivatives of a penalty-like function."""

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


def assert_agree(fast, plain, batch, resolution, size):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(batch, resolution, resolution, 2)))
  kernel = jnp.asarray(rng.normal(size=(size, size, 2, 3)) / 3)
  jitted = jax.jit(everything, static_argnums=0)
  fast, plain = (jitted(f, x, kernel) for f in (fast, plain))
  for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3])
def test_all_derivatives_agree(float64, size):
  assert_agree(convolve, convolve_plain, 3, 4, size)


def upsample_convolve_as_two(x, kernel):
  return convolve_plain(upsample(x), kernel)


def convolve_downsample_as_two(x, kernel):
  return downsample(convolve_plain(x, kernel))


@pytest.mark.parametrize(
  ("one", "two"),
  [
    (upsample_convolve_dilated, upsample_convolve_as_two),
    (convolve_downsample_strided, convolve_downsample_as_two),
    (convolve_narrow, convolve_plain),
  ],
)
def test_all_derivatives_of_a_single_convolution_agree(float64, one, two):
  assert_agree(one, two, 3, 4, 3)


@pytest.mark.parametrize(
  ("fast", "plain"),
  [
    (convolve, convolve_plain),
    (upsample_convolve, upsample_convolve_as_two),
  ],
)
@pytest.mark.parametrize(("batch", "resolution"), [(3, 4), (20, 16)])
def test_all_derivatives_of_winograds_form_agree(
  float64, monkeypatch, fast, plain, batch, resolution
):
  """Two channels are below its limit, so force it; one chunk and several."""
  monkeypatch.setattr(convolution, "_winograd_pays", lambda *_, **__: True)
  assert_agree(fast, plain, batch, resolution, 3)


def test_winograds_form_is_accurate_in_float32():
  """At a real width, its error against float64 is near that of XLA's."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 32, 32, 64))
  kernel = rng.normal(size=(3, 3, 64, 64))
  exact = sum(
    np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, i : i + 32, j : j + 32]
    @ kernel[i, j]
    for i in range(3)
    for j in range(3)
  )
  operands = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
  text = jax.jit(convolve).lower(*operands).as_text()
  assert "convolution" not in text  # Winograd's form at this size
  for f in (convolve, convolve_plain):
    error = np.abs(np.asarray(jax.jit(f)(*operands)) - exact).max()
    assert error < 3e-6 * np.abs(exact).max()
