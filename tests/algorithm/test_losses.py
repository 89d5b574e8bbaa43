"""Losses against NumPy, penalties against closed forms and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import losses
from msggan_jax.algorithm.penalties import Images, of_full_size
from msggan_jax.models.pyramid import downsample

REAL_LOGITS = np.array([1.5, -0.3, 0.2, 2.0], np.float32)
FAKE_LOGITS = np.array([-0.5, 0.9, -2.0, 0.1], np.float32)


def numpy_losses(r, f):
  """Return terms of (d_loss, g_loss), written out from the papers."""
  softplus = lambda x: np.log1p(np.exp(x))
  relu = lambda x: np.maximum(x, 0)
  rf, fr = r - f.mean(), f - r.mean()
  return {
    "wasserstein": (f - r + 0.001 * r**2, -f),
    "logistic": (softplus(f) + softplus(-r), softplus(-f)),
    "hinge": (relu(1 - r) + relu(1 + f), -f),
    "relativistic_hinge": (
      relu(1 - rf) + relu(1 + fr),
      relu(1 + rf) + relu(1 - fr),
    ),
    "least_squares": (0.5 * (r - 1) ** 2 + 0.5 * f**2, 0.5 * (f - 1) ** 2),
    "relativistic_pairing": (softplus(f - r), softplus(r - f)),
  }


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_adversarial_losses(name):
  pair = zip(
    losses.adversarial(name),
    numpy_losses(REAL_LOGITS, FAKE_LOGITS)[name],
    strict=True,
  )
  for ours, terms in pair:
    value = ours(REAL_LOGITS, FAKE_LOGITS)
    np.testing.assert_allclose(value, terms.mean(), rtol=1e-6)


def test_unknown_loss_names_the_choices():
  with pytest.raises(ValueError, match="wasserstein, logistic, hinge"):
    losses.adversarial("wgan")


def random_pyramid(seed, batch=3, resolutions=(4, 8, 16)):
  rng = np.random.default_rng(seed)
  return tuple(
    jnp.asarray(rng.normal(size=(batch, r, r, 2))) for r in resolutions
  )


def smooth_critic(pyramid):
  """A critic whose examples and scales are coupled, without kinks."""
  scores = 0.0
  for s, x in enumerate(pyramid):
    flat = x.reshape(len(x), -1)
    scores += jnp.tanh(flat @ jnp.cos(jnp.arange(flat.shape[1]) + s)) * (s + 1)
    scores += 0.1 * jnp.mean(jnp.square(flat)) * jnp.sin(flat[:, 0])
  return scores


def differences(critic, pyramid, s):
  """Return the gradient of the summed critic at scale s, numerically."""
  shape, step = pyramid[s].shape, 1e-5

  @jax.jit
  def moved(direction):
    x = pyramid[s] + step * direction.reshape(shape)
    return critic((*pyramid[:s], x, *pyramid[s + 1 :])).sum()

  directions = np.eye(pyramid[s].size)
  slopes = [(moved(d) - moved(-d)) / (2 * step) for d in directions]
  return np.array(slopes).reshape(shape)


def test_gradient_penalties_against_finite_differences(float64):
  reals = random_pyramid(0, 2, (4, 8))
  fakes = random_pyramid(1, 2, (4, 8))
  epsilon = jnp.array([0.2, 0.7])
  critic = lambda x: 10 * smooth_critic(x)  # norms lie on both sides of 1
  values, one_sided = (
    losses.gradient_penalty(critic, reals, fakes, epsilon, is_one_sided)
    for is_one_sided in (False, True)
  )
  assert (one_sided == 0).any() and (one_sided > 0).any()
  e = np.asarray(epsilon)[:, None, None, None]
  mixed = tuple(e * r + (1 - e) * f for r, f in zip(reals, fakes, strict=True))
  for s in range(2):
    g = differences(critic, mixed, s)
    excess = np.sqrt((g**2).sum(axis=(1, 2, 3))) - 1
    np.testing.assert_allclose(values[s], excess**2, rtol=1e-6)
    excess = np.maximum(excess, 0)
    np.testing.assert_allclose(one_sided[s], excess**2, rtol=1e-6)


@pytest.mark.parametrize(("factor", "rows"), [(2, 4), (4, 4), (2, 3)])
def test_total_derivatives_pass_through_the_pooling(factor, rows, float64):
  """With factor 4, the scale in between is not connected."""
  full = random_pyramid(2, 2, (4 * factor,))[0][:, : rows * factor]
  reals = (downsample(full, factor), full)
  values = losses.r1_penalty(smooth_critic, reals, "total")
  pooled = lambda x: smooth_critic((downsample(x[0], factor), x[0]))
  g = differences(pooled, (full,), 0)
  np.testing.assert_allclose(values[1], (g**2).sum(axis=(1, 2, 3)), rtol=1e-6)


def test_a_stages_penalty_is_that_of_doubled_images(float64):
  """As in the authors' code, where D pools images of the full size."""
  reals, fakes = random_pyramid(0, 2, (4,)), random_pyramid(1, 2, (4,))
  epsilon = jnp.array([0.2, 0.7])
  pooled = lambda x: smooth_critic((downsample(x[0], 4),))

  def doubled(pyramid):
    return (pyramid[0].repeat(4, axis=1).repeat(4, axis=2),)

  for penalty, *images in (
    (losses.gradient_penalty, reals, fakes),
    (losses.r1_penalty, reals),
  ):
    given = (epsilon,) if len(images) == 2 else ()
    expected = penalty(pooled, *map(doubled, images), *given)
    critic, large = of_full_size(
      smooth_critic, Images(reals, fakes, epsilon), 4 / 16
    )
    values = penalty(critic, *large[: len(images)], *given)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert not np.allclose(penalty(smooth_critic, *images, *given), expected)


def test_the_penaltys_own_gradient_against_finite_differences(float64):
  """What D is trained with: the derivative of the penalty by a parameter."""
  reals, fakes = random_pyramid(0, 2, (4, 8)), random_pyramid(1, 2, (4, 8))
  epsilon = jnp.array([0.2, 0.7])

  def penalty(scale):
    critic = lambda x: smooth_critic(tuple(scale * images for images in x))
    return losses.gradient_penalty(critic, reals, fakes, epsilon).mean()

  step = 1e-6
  numerical = (penalty(0.5 + step) - penalty(0.5 - step)) / (2 * step)
  np.testing.assert_allclose(jax.grad(penalty)(0.5), numerical, rtol=1e-6)


def test_a_scale_without_influence_gives_no_nan():
  reals, fakes = random_pyramid(0), random_pyramid(1)

  def loss(weight):
    critic = lambda x: weight * x[0].mean(axis=(1, 2, 3))
    values = losses.gradient_penalty(critic, reals, fakes, jnp.ones(3))
    return values.mean()

  value, gradient = jax.value_and_grad(loss)(1.0)
  assert np.isfinite(value) and np.isfinite(gradient)
