"""A batch in parts, activations anew: the same training in less memory."""

import jax
import pytest

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.runtime import sharding
from tests.algorithm.test_variants import assert_same, small_config, train


def assert_same_in_parts(preset, num_devices, **changes):
  config = small_config(preset, batch_size=32, **changes)
  _, whole, whole_metrics = train(config, num_devices, 2)
  config.micro_batch_size = 4
  checks.validate(config, num_devices)
  _, parts, parts_metrics = train(config, num_devices, 2)
  assert_same(parts_metrics, whole_metrics, 1e-9)
  assert_same(parts, whole, 1e-9)


def test_parts_train_as_the_whole(float64):
  # Relativistic: not a sum over examples.
  assert_same_in_parts("msg_progan", 2, loss="relativistic_hinge")


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"num_classes": 3, "loss": "relativistic_pairing", "penalty": "r1_r2"},
    {"penalty_interval": 2, "g_step_latents": "fresh"},
  ],
)
def test_stylegan_in_parts(changes, float64):
  # Labels, noise, the average of w.
  assert_same_in_parts("msg_stylegan", 2, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["msg_progan", "msg_stylegan"])
def test_remat_trains_as_without(preset, float64):
  config = small_config(preset)
  _, kept, kept_metrics = train(config, 2, 2)
  config.remat_from = 8
  _, anew, anew_metrics = train(config, 2, 2)
  assert_same(anew_metrics, kept_metrics, 1e-9)
  assert_same(anew, kept, 1e-9)


@pytest.mark.slow
def test_parts_keep_less_in_memory():
  config = small_config("msg_progan", batch_size=64, resolution=16)
  peaks = []
  for config.micro_batch_size in (0, 4):
    peaks.append(temporary_bytes(config))
  assert peaks[1] < peaks[0] / 2


def temporary_bytes(config):
  run = program.make_program(config, sharding.make_mesh(jax.devices()[:1]))
  compiled = run.step.lower(run.abstract_state, run.abstract_batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    ({"micro_batch_size": 12}, "micro_batch_size is 12; it must be a multiple"),
    ({"micro_batch_size": 2}, "micro_batch_size is 2; it must be a multiple"),
    (
      {"micro_batch_size": -4},
      "micro_batch_size is -4; choose a whole number, 0 or more",
    ),
    ({"micro_batch_size": 4, "stddev_group": 0}, "stddev spans the whole"),
  ],
)
def test_impossible_parts_are_refused(changes, sentence):
  config = small_config(batch_size=16, **changes)
  with pytest.raises(ValueError, match=sentence):
    checks.validate(config, 1)
