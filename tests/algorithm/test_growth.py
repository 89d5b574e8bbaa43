"""Phases: stages, fades, and the images shown at a step."""

import jax.numpy as jnp
import pytest

from msggan_jax.algorithm import growth, schedules
from tests.algorithm.runs import small_config


@pytest.fixture
def config():
  """Three stages in batches of 4, 4 and 8; times in images."""
  config = small_config("progan", resolution=16, batch_size=4)
  config.grow_batch_sizes, config.grow_learning_rates = "16:8", "8:0.5"
  config.grow_stable_kimg, config.grow_fade_kimg = 0.010, 0.020
  config.total_kimg = 0.100
  return config


def images_at(config, step):
  return growth.images_at(growth.phases(config), step)


def test_phases_end_at_the_nearest_step(config):
  found = [
    (p.resolution, p.fades, p.first_step, p.steps, p.first_image)
    for p in growth.phases(config)
  ]
  assert found == [
    (4, False, 0, 2, 0),  # to 10 images: 2.5 steps
    (8, True, 2, 6, 8),  # to 30
    (8, False, 8, 2, 32),  # to 40
    (16, True, 10, 2, 40),  # to 60: 2.5 steps
    (16, False, 12, 6, 56),  # to 100: 5.5
  ]
  assert growth.total_steps(config) == 18
  shown = [images_at(config, step) for step in range(19)]
  assert shown == [*range(0, 40, 4), *range(40, 112, 8)]
  rates = [p.learning_rate for p in growth.phases(config)]
  assert rates == [0.001, 0.5, 0.5, 0.5, 0.5]
  config.grow_from = 0
  assert growth.phases(config) == (growth.Phase(16, False, 0, 25, 0, 4, 0.001),)


def test_alpha_is_the_share_of_the_fade_that_was_shown(config):
  alphas = []
  for step in range(19):
    resolution = growth.phase_at(config, step).resolution
    stage = growth.stage(config, resolution)
    alphas.append(float(growth.alpha(stage, jnp.int32(step))))
  of_fade = [pytest.approx(i / 6) for i in range(6)]
  assert alphas == [1, 1, *of_fade, 1, 1, 0, 0.5, *[1] * 7]


def test_a_stage_knows_the_steps_before_it(config):
  """Its configuration gives the same phases and images, also of itself."""
  for step in range(18):
    resolution = growth.phase_at(config, step).resolution
    stage = growth.stage(config, resolution)
    assert growth.stage(stage, resolution) == stage
    assert images_at(stage, step) == images_at(config, step)
    assert growth.stage_after(config, step + 1) == stage
    phase = growth.phase_at(config, step)
    assert stage.batch_size == phase.batch_size
    assert stage.learning_rate == phase.learning_rate
  assert growth.stage_after(config, 0).resolution == 4


def test_schedules_follow_the_images(config):
  """Also where batches change: half a cosine over 80 images."""
  config.burn_in_kimg, config.r1_gamma = 0.08, 1.0
  config.r1_gamma_end = 0.0
  for step in range(19):
    phase = growth.phase_at(config, step)
    stage = growth.stage(config, phase.resolution)
    share = min(images_at(config, step) / 80, 1)
    expected = 0.5 + 0.5 * jnp.cos(jnp.pi * share)
    now = schedules.at(stage, jnp.int32(step))
    assert float(now.r1_gamma) == pytest.approx(float(expected), abs=1e-6)


def test_levels_above_a_stage_are_left_out_and_put_back():
  tree = {"block_4x4": 1, "to_rgb_8x8": 2, "block_16x16": 3, "w_avg": 4}
  whole = (tree, [5, {"block_8x8": {"x_32x32": 6}, "score": 7}])
  part = growth.part_of(whole, 8)
  assert part == (
    {"block_4x4": 1, "to_rgb_8x8": 2, "w_avg": 4},
    [5, {"block_8x8": {"x_32x32": 6}, "score": 7}],
  )
  assert growth.put_back(whole, part) == whole
  changed = ({"block_4x4": 9}, [8, {}])
  assert growth.put_back(whole, changed) == (
    tree | {"block_4x4": 9},
    [8, whole[1][1]],
  )
