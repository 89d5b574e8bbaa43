"""Schedules and weights of scales: closed forms, and a run cut in two."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msggan_jax.algorithm import averaging, penalties, schedules, train_state
from msggan_jax.models.pyramid import make_pyramid
from msggan_jax.runtime import sharding
from tests.algorithm.runs import small_config

pytestmark = pytest.mark.usefixtures("standard_promotion")


def scheduled_config(**changes):
  """Return a configuration whose burn-in lasts 10 steps."""
  config = small_config("msg_r3", batch_size=8, burn_in_kimg=0.08)
  config.update(changes)
  return config


def test_values_follow_half_a_cosine(float64):
  config = scheduled_config(r1_gamma=3.0, r1_gamma_end=1.0)
  for step, share in (
    (0, 1.0),
    (2, 0.5 + 0.5 * math.cos(math.pi / 5)),
    (5, 0.5),
    (10, 0),
    (99, 0),
  ):
    now = schedules.at(config, jnp.int32(step))
    expected = {
      "r1_gamma": 1.0 + 2.0 * share,
      "learning_rate": 0.0005 + 0.0015 * share,
      "beta2": 0.99 - 0.09 * share,
      "ema_kimg": 10.0 * (1 - share),
    }
    for name, value in expected.items():
      assert getattr(now, name) == pytest.approx(value, rel=1e-12), name
    rate = 1 - 0.5 ** (0.008 / expected["ema_kimg"]) if step else 1.0
    assert averaging.ema_rate(config, now) == pytest.approx(rate, rel=1e-12)
    assert now.moving().keys() == {*expected, "r2_gamma"}


def test_without_schedules_the_fields_are_used_as_they_are(tiny_config):
  for tiny_config.burn_in_kimg in (0.0, 1.0):
    now = schedules.at(tiny_config, jnp.int32(3))
    assert now._asdict() == {name: tiny_config[name] for name in now._fields}
    assert not now.moving()
  for tiny_config.ema_kimg, rate in ((0.064, 1 - 0.5**0.5), (0.0, 1.0)):
    assert averaging.ema_rate(tiny_config, tiny_config) == pytest.approx(rate)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_optimizers_follow_their_schedules(name, float64):
  """Three steps by hand; the state has the form of an unscheduled one."""
  config = scheduled_config(optimizer=name)
  optimizer = train_state.make_optimizer(config)
  params = expected = np.array([1.0, -2.0])
  state = optimizer.init(params)
  constant = scheduled_config(optimizer=name, burn_in_kimg=0.0)
  assert jax.tree.structure(state) == jax.tree.structure(
    train_state.make_optimizer(constant).init(params)
  )
  average = 0.0
  gradients = np.array([[0.1, 0.0], [-3.0, 1e-6], [0.5, 2.0]])
  for step, grads in enumerate(gradients):
    now = schedules.at(config, jnp.int32(step))
    updates, state = optimizer.update(grads, state, params, now=now)
    params = optax.apply_updates(params, updates)
    share = 0.5 + 0.5 * math.cos(math.pi * step / 10)
    rate, beta2 = 0.0005 + 0.0015 * share, 0.99 - 0.09 * share
    average = beta2 * average + (1 - beta2) * grads**2
    corrected = average
    if name == "adam":  # PyTorch's, with beta1 = 0
      corrected = average / (1 - beta2 ** (step + 1))
    expected = expected - rate * grads / (np.sqrt(corrected) + 1e-8)
  np.testing.assert_allclose(params, expected, rtol=1e-10)


def test_scales_weigh_as_chosen():
  """gamma's law: a critic of the same c = s ||g_s|| at every scale."""
  scales = np.array([4, 8, 16, 32, 64])
  squared_norms = (3 / scales) ** 2
  pixels = 5 * 9 / 64**2
  for rule, expected in (
    ("sum", squared_norms.sum()),
    ("mean", squared_norms.mean()),
    ("pixels", pixels),
    ("sides", 9 / 64 * (1 / scales).sum()),
    ([1.0, 0.0, 0.0, 0.0, 2.0], 9 / 16 + 2 * 9 / 64**2),
  ):
    weights = penalties.scale_weights(rule, scales)
    assert np.dot(weights, squared_norms) == pytest.approx(expected), rule
  gamma_mean = 12 * 5**2 / 64**2
  # The sum of 1 / s^2 is 1 / 12 up to 4^-S.
  tolerance = 4.0**-5 * 1.01
  assert gamma_mean * squared_norms.mean() == pytest.approx(pixels, tolerance)


def test_the_penalty_of_a_step_is_weighed():
  """D's loss with the weights, against the means per scale it reports."""
  config = scheduled_config(penalty="r1_r2", penalty_scales=[0.5, 2.0])
  config.penalty_derivatives = "partial"
  images = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 3))
  pyramids = (make_pyramid(x, (4, 8)) for x in images)
  images = penalties.Images(*pyramids, jnp.zeros(4))

  def critic(pyramid, _):
    return sum(jnp.sin(x).sum(axis=(1, 2, 3)) for x in pyramid)

  now = schedules.at(config, jnp.int32(10))  # after the burn-in
  computed = jax.shard_map(
    lambda images: penalties.penalize(config, now, critic, images, None),
    mesh=sharding.make_mesh(jax.devices()[:1]),
    in_specs=jax.P("data"),
    out_specs=jax.P(),
  )(images)
  expected = sum(
    0.5 * config.r1_gamma_end * weight * float(computed.means[name])
    for kind in ("r1", "r2")
    for weight, name in ((0.5, f"{kind}_penalty/4"), (2, f"{kind}_penalty/8"))
  )
  assert expected > 0
  assert computed.count == 1
  assert computed.loss == pytest.approx(expected, rel=1e-6)
