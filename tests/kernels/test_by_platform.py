"""The fast convolutions against XLA's, up to the second derivative."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax import kernels
from msggan_jax.kernels import cpu, gpu, plain
from msggan_jax.kernels.by_platform import (
  convolve,
  convolve_downsample,
  downsample,
  upsample,
  upsample_convolve,
)
from msggan_jax.kernels.precision import TRUE_FLOAT32
from msggan_jax.kernels.tpu import unfolded


@pytest.fixture
def winograd(monkeypatch):
  """Use Winograd's form below its limits, in several chunks."""
  monkeypatch.setattr(cpu, "pays", lambda *_: True)
  monkeypatch.setattr(cpu, "_POSITIONS", 32)


def everything(convolve, x, kernel):
  """Return the value and the derivatives of a penalty-like function."""

  def critic(x, kernel):
    y = jnp.tanh(convolve(x, kernel))
    return jnp.sum(jnp.sin(y))

  def penalty(x, kernel):
    return jnp.sum(jnp.square(jax.grad(critic)(x, kernel)))

  return (
    convolve(x, kernel),
    jax.grad(critic, (0, 1))(x, kernel),
    jax.grad(penalty, (0, 1))(x, kernel),
  )


def assert_agree(fast, reference, size=3):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(3, 4, 4, 2)))
  kernel = jnp.asarray(rng.normal(size=(size, size, 2, 3)) / 3)
  jitted = jax.jit(everything, static_argnums=0)
  results = (jitted(f, x, kernel) for f in (fast, reference))
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
  ("fast", "reference", "size"),
  [
    (convolve, plain.convolve, 3),
    (convolve, plain.convolve, 1),
    (convolve_downsample, plain.convolve_downsample, 3),
    (unfolded.upsample_convolve, plain.upsample_convolve, 3),
    (unfolded.convolve_downsample, plain.convolve_downsample, 3),
    (unfolded.convolve_narrow, plain.convolve, 3),
  ],
)
def test_all_derivatives_agree(float64, fast, reference, size):
  assert_agree(fast, reference, size)


def test_images_on_gpus(monkeypatch, float64):
  """From two channels, and in the derivatives from three to two."""
  monkeypatch.setattr(gpu, "_FEW", 2)
  convolve = lambda x, kernel: gpu.convolve(x, kernel, None, TRUE_FLOAT32)
  assert_agree(convolve, plain.convolve, size=1)


@pytest.mark.parametrize(
  "operation",
  [
    "upsample_convolve",
    "convolve_downsample",
    "leaky_relu",
    "leaky_relu_and_downsample",
  ],
)
def test_derivatives_on_gpus(float64, operation):
  def of(forms):
    def f(x, kernel):
      if "relu" in operation:
        kernel = jnp.tile(kernel, 8)[..., :8]  # channels, for a byte
        return getattr(forms, operation)(plain.convolve(x, kernel))
      then = [plain.pixel_norm] if operation == "upsample_convolve" else []
      operands = x, kernel, kernel[0, 0, 1], TRUE_FLOAT32
      return getattr(forms, operation)(*operands, *then)

    return f

  assert_agree(of(kernels.ON_GPUS), of(kernels.PLAIN))


def test_signs_add_no_products_to_a_penalty():
  """Its gradient reads signs, not values, so these have no derivatives."""
  kernel = jnp.ones((3, 3, 8, 8))

  def penalty(kernel, forms):
    def score(x):
      x = forms.leaky_relu(plain.convolve(x, kernel))
      return forms.leaky_relu_and_downsample(plain.convolve(x, kernel)).sum()

    return jnp.square(jax.grad(score)(jnp.ones((1, 8, 8, 8)))).sum()

  ours, plains = (
    jax.jit(jax.grad(penalty), static_argnums=1).lower(kernel, forms).as_text()
    for forms in (kernels.ON_GPUS, kernels.PLAIN)
  )
  assert ours.count("convolution(") == plains.count("convolution(") > 0


@pytest.mark.parametrize(
  ("fast", "reference"),
  [
    (convolve, plain.convolve),
    (upsample_convolve, plain.upsample_convolve),
  ],
)
def test_all_derivatives_of_winograds_form_agree(
  float64, winograd, fast, reference
):
  assert_agree(fast, reference)


def test_cpus_meet_convolutions_in_their_order():
  """Inside a conditional XLA reorders none."""

  def f(x, kernel):
    x = upsample_convolve(convolve(x, kernel), kernel)
    return convolve_downsample(x, kernel)

  x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))
  lowered = jax.jit(everything, static_argnums=0).lower(f, x, kernel)
  orders = re.findall("dim_numbers = (.*?), window", lowered.as_text())
  assert set(orders) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


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
  for f in (convolve, plain.convolve):
    error = np.abs(np.asarray(jax.jit(f)(*operands)) - exact).max()
    assert error < 3e-6 * np.abs(exact).max()


def test_downsample_undoes_upsample():
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  np.testing.assert_allclose(downsample(upsample(x, 4), 4), x, rtol=1e-6)
  by_hand = np.asarray(x).reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
  for halved in (downsample(x), unfolded.downsample(x, 2)):
    np.testing.assert_allclose(halved, by_hand, rtol=1e-5, atol=1e-6)
