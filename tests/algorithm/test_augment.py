"""Augmentation: what is drawn, its strength, and the step with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import augment, losses
from msggan_jax.algorithm.augment import AugmentState
from msggan_jax.algorithm.transformations import OUTSIDE, transform
from msggan_jax.models import base_grid
from msggan_jax.models.pyramid import make_pyramid
from msggan_jax.runtime import sharding
from tests.algorithm.runs import Run, make_batch, small_config
from tests.conftest import load_config


def draw(policy, size, strength=1.0, num_devices=1, **fields):
  """Draw one transformation for each of `size` examples, over devices."""
  config = load_config("default")
  config.update(augment=policy, **fields)
  mesh = sharding.make_mesh(jax.devices()[:num_devices])
  drawn = jax.shard_map(
    lambda strength: augment.draw(
      config, jax.random.key(3), size // num_devices, strength
    ),
    mesh=mesh,
    in_specs=jax.P(),
    out_specs=jax.P("data"),
  )
  return jax.device_get(jax.jit(drawn)(strength))


def test_devices_draw_the_same():
  one, eight = (draw("diffaugment", 64, num_devices=n) for n in (1, 8))
  jax.tree.map(np.testing.assert_array_equal, one, eight)


def is_used(name, drawn):
  """Return which examples a transformation changes, (B,)."""
  value = getattr(drawn, name)
  if name == "color":
    matrix, offset = value
    changed = np.abs(matrix - np.eye(matrix.shape[-1])).max(axis=(1, 2)) > 1e-6
    return changed | (np.abs(offset).max(axis=1) > 1e-6)
  if name == "warp":
    return np.abs(value - np.eye(2, 3)).max(axis=(1, 2)) > 1e-6
  unused = -4 if name == "cutout" else 0
  return (value != unused).reshape(len(value), -1).any(axis=1)


def test_strength_is_the_probability_of_each():
  drawn = draw("ada", 4000, 0.3)
  # How often a transformation in use changes nothing, or several share a field.
  p = 0.3
  frequency = {
    "color": 1 - (1 - p) ** 4 * (1 - p / 2),  # luma flips only every other time
    "flip": p / 2,
    "turns": p * 3 / 4,
    "cells": p * 8 / 9,
    "warp": 1 - (1 - p) ** 4,  # the two rotations together count once
    "cutout": p,
  }
  used = {
    name: is_used(name, drawn).mean()
    for name, value in drawn._asdict().items()
    if value is not None
  }
  for name, share in used.items():
    deviation = np.sqrt(frequency[name] / 4000)
    assert abs(share - frequency[name]) < 4 * deviation, name
  nothing = draw("ada", 8, 0.0)
  assert not any(is_used(name, nothing).any() for name in used)


def test_colors_of_grays_stay_gray():
  """Hue and saturation turn about the gray axis; luma flips negate it."""
  drawn = draw("exact", 200)
  matrix, offset = drawn.color
  gray = np.ones(3)
  turned = matrix @ gray
  np.testing.assert_allclose(turned, turned[:, :1] * gray, atol=1e-5)
  np.testing.assert_allclose(offset, offset[:, :1] * gray, atol=1e-5)
  assert (turned[:, 0] < 0).mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
  ("channels", "limits", "colors"),
  [(1, "", 1), (4, "", 3), (3, "0:1", 1)],
)
def test_values_and_grays_are_no_colors(channels, limits, colors):
  fields = {"channels": channels, "dataset": {"range": limits}}
  assert draw("ada", 2, **fields).color[0].shape == (2, colors, colors)


@pytest.mark.parametrize("grid", ["4x4", "3x4", "7x4"])
def test_the_exact_group_commutes_with_pooling(grid):
  """The pyramid of transformed images is the transformed pyramid."""
  rows, columns = base_grid.parse(grid)
  size = base_grid.image_size(16, (rows, columns))
  images = jax.random.normal(jax.random.key(3), (64, *size, 3))
  change = draw("exact", 64, 0.8, base_grid=grid)
  before = transform(make_pyramid(images, (4, 8, 16)), change)
  after = make_pyramid(transform((images,), change)[0], (4, 8, 16))
  for x, y in zip(before, after, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6, rtol=0)
  # Every cell of the lattice is reached, and none behind it.
  used = change.cutout[change.cutout.max(axis=1) < OUTSIDE]
  assert used.min() == -1
  assert (used.max(axis=0) == (rows - 1, columns - 1)).all()


def test_a_warp_is_the_inverse_of_its_changes_in_order():
  """The shift is the last one, so neither zoom nor turns change it."""
  numbers = {
    "zoom": 2.0,
    "rotation": np.pi / 2,
    "stretch": 1.5,
    "last_rotation": 0.3,
    "fraction": np.array([0.0, 0.25]),
  }
  warp = augment._warp(lambda name, _: jnp.asarray(numbers[name]), (4, 4))
  matrix, shift = warp[:, :2], warp[:, 2]
  place = -np.linalg.inv(matrix) @ shift  # of the image's center
  np.testing.assert_allclose(place, numbers["fraction"], atol=1e-6)
  turn, last = (
    np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    for a in (numbers["rotation"], numbers["last_rotation"])
  )
  wanted = turn @ np.diag([1 / 1.5, 1.5]) @ last / 2
  np.testing.assert_allclose(matrix, wanted, atol=1e-6)


def run_adapt(config, signals):
  state = augment.initial_state(config)
  strengths = []
  for signal in signals:
    state = augment.adapt(config, state, tuple(map(jnp.float32, signal)))
    strengths.append(float(state.strength))
  return state, strengths


def test_an_adaptive_strength_follows_its_signal():
  config = load_config("default")
  config.augment, config.augment_target = "exact", 0.5
  config.batch_size, config.augment_kimg = 100, 1.0  # a tenth a step
  config.augment_strength = 0.25
  signals = [(0.9, 1.0), (0.9, 1.0), (0.9, 1.0), (-3.0, 1.0), (-3.0, 1.0)]
  state, strengths = run_adapt(config, signals)
  # r is a running mean over a running mean: 0.9 at once, then falling.
  np.testing.assert_allclose(strengths, [0.1, 0.2, 0.25, 0.15, 0.05], rtol=1e-6)
  expected = 0.0
  for numerator, _ in signals:
    expected = 0.75 * expected + 0.25 * numerator
  assert float(state.numerator) == pytest.approx(expected, rel=1e-6)
  config.augment_strength = 1.0  # G would learn the turns
  _, strengths = run_adapt(config, [(0.9, 1.0)] * 10)
  assert strengths[-1] == pytest.approx(augment.HIGHEST["exact"])
  # D that scores reals below fakes has not overfitted.
  _, strengths = run_adapt(config, [(-1.0, -1.0)] * 2)
  assert strengths == [0.0, 0.0]


def test_a_boundary_is_where_reals_and_fakes_cost_the_same():
  for loss, boundary in augment.BOUNDARIES.items():
    d_loss = losses.adversarial(loss).d_loss
    slope = jax.grad(lambda x, d_loss=d_loss: d_loss(x, x))(boundary)
    assert slope == pytest.approx(0, abs=1e-7), loss


def test_the_signal_of_the_losses():
  values = {
    "real_logits": jnp.float32(3.0),
    "fake_logits": jnp.float32(-1.0),
    "real_signs": jnp.float32(0.8),
  }
  assert augment.overfitting(values, None) == (pytest.approx(0.8), 1.0)
  assert augment.overfitting(values, jnp.float32(1.0)) == (2.0, 4.0)
  state = AugmentState(*map(jnp.float32, (0.0, 2.0, 4.0)))
  assert float(augment.rate(state)) == 0.5


def test_held_out_images_are_the_signal_of_every_loss():
  config = load_config("default")
  config.augment, config.augment_target = "exact", 0.5
  assert not augment.needs_holdout(config)
  config.augment_holdout = "test"
  for config.loss in losses.ADVERSARIAL_LOSSES:
    augment.check(config)
    assert augment.needs_holdout(config)
    assert augment.statistics(config, jnp.zeros(4)) == {}
  config.augment_target = 0.0
  assert not augment.needs_holdout(config)


def test_a_step_with_schedules_averages_and_an_adaptive_strength():
  """Its metrics; step 2 from a copy of step 1's state has the same numbers."""
  quick = {"resolution": 4, "penalty": "none"}
  config = small_config(augment="diffaugment", augment_target=0.5, **quick)
  config.augment_holdout, config.augment_kimg = "test", 0.1
  config.loss = "logistic"  # held-out images count although it has a zero
  config.burn_in_kimg, config.learning_rate_end = 0.08, 0.001  # 10 steps
  config.ema_decay, config.ema_averages = 0.99999, True
  run = Run(config)
  on_mesh = sharding.replicated(run.mesh)
  begin = AugmentState(*map(jnp.float32, (0.5, 0.0, 0.0)))
  begin = jax.device_put(begin, on_mesh)  # so the step is compiled once
  run.state = run.state.replace(augment_state=begin)
  run.train(1)
  copy = jax.device_get(run.state)
  values = run.metrics.values
  difference = values["real_logits"] - values["fake_logits"]
  np.testing.assert_allclose(
    copy.augment_state.denominator, 0.25 * difference, rtol=1e-5
  )
  assert abs(values["augment_strength"] - 0.5) == pytest.approx(0.08, rel=1e-5)
  run.state, metrics = run.step(run.state, run.batch(1))
  again, _ = run.step(jax.device_put(copy, on_mesh), run.batch(1))
  jax.tree.map(np.testing.assert_array_equal, run.state, again)
  rate = 0.001 + 0.002 * (0.5 + 0.5 * np.cos(np.pi / 10))
  assert metrics.values["learning_rate"] == pytest.approx(rate, rel=1e-6)


def test_held_out_images_are_scored_as_the_reals_are():
  """Also with spectral norm, whose u and v move in a step: r of reals is 0."""
  config = small_config(resolution=4, penalty="none", spectral_norm=True)
  config.augment, config.augment_target = "exact", 0.5
  config.augment_holdout, config.mirror = "test", False
  run = Run(config)
  batch = make_batch(config)
  batch |= {f"holdout_{name}": batch[name] for name in ("image", "label")}
  state, metrics = run.step(run.state, sharding.put_batch(run.mesh, batch))
  logits = metrics.values["real_logits"]
  assert float(state.augment_state.numerator) == pytest.approx(
    0, abs=1e-5 * abs(float(logits))
  )
