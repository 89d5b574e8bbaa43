"""A batch in parts, activations anew: the same training in less memory."""

import jax
import pytest

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.runtime import sharding
from tests.algorithm.runs import Run, assert_same, small_config


def assert_trains_the_same(config, **changes):
  """On two devices, from the same state, with and without the changes."""
  whole = Run(config, 2).train(2)
  config.update(changes)
  checks.validate(config, 2)
  changed = Run(config, 2).train(2)
  assert_same(changed.metrics, whole.metrics)
  assert_same(changed.state, whole.state)


def test_parts_train_as_the_whole(float64):
  # Relativistic: not a sum over examples.
  config = small_config(batch_size=32, resolution=4, loss="relativistic_hinge")
  assert_trains_the_same(config, micro_batch_size=4)


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
  config = small_config("msg_stylegan", batch_size=32, **changes)
  assert_trains_the_same(config, micro_batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["msg_progan", "msg_stylegan"])
def test_remat_trains_as_without(preset, float64):
  assert_trains_the_same(small_config(preset), remat_from=8)


@pytest.mark.slow
def test_parts_keep_less_in_memory():
  config = small_config("msg_progan", batch_size=64, resolution=16)
  mesh, peaks = sharding.make_mesh(jax.devices()[:1]), []
  for config.micro_batch_size in (0, 4):
    compiled, _ = program.make_program(config, mesh).compile()
    peaks.append(compiled.memory_analysis().temp_size_in_bytes)
  assert peaks[1] < peaks[0] / 2


def test_impossible_parts_are_refused():
  for changes, sentence in (
    ({"micro_batch_size": 12}, "micro_batch_size is 12; it must be a multiple"),
    ({"micro_batch_size": 2}, "micro_batch_size is 2; it must be a multiple"),
    ({"micro_batch_size": -4}, "is -4; choose a whole number, 0 or more"),
    ({"micro_batch_size": 4, "stddev_group": 0}, "stddev spans the whole"),
  ):
    config = small_config(batch_size=16, **changes)
    with pytest.raises(ValueError, match=sentence):
      checks.validate(config, 1)
