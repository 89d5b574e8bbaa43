"""On any devices, in parts, activations anew: the same training."""

import jax
import pytest

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.runtime import sharding
from tests.algorithm.runs import Run, assert_equal, assert_same, small_config

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARTS = {"micro_batch_size": 4}
LABELED = {"num_classes": 3, "batch_size": 32}
HELD_OUT = LABELED | {"augment_holdout": "test"}
HELD_OUT |= {"augment_target": 0.5, "augment_kimg": 0.1}
PAIRING = {"loss": "relativistic_pairing", "penalty": "r1_r2"}
# Of one device, then what must train the same: devices, and other fields.
CASES = [
  # Relativistic: not a sum over examples.
  (
    "msg_progan",
    {"loss": "relativistic_hinge", "resolution": 4, "batch_size": 32},
    [(2, PARTS)],
  ),
  (
    "msg_progan",
    {"pyramid": "exact", "penalty": "none", "batch_size": 16},
    [(2, PARTS)],
  ),
]
SLOW_CASES = [
  # Labels, noise, the average of w.
  ("msg_stylegan", LABELED, [(8, {})]),
  ("msg_stylegan", LABELED | PAIRING, [(2, PARTS)]),
  (
    "msg_stylegan",
    {"penalty_interval": 2, "g_step_latents": "fresh", "batch_size": 32},
    [(2, PARTS), (2, {"remat_from": 8})],
  ),
  ("msg_progan", {}, [(2, {"remat_from": 8})]),
  # Batch-wide stddev, under a second derivative too, a relativistic loss,
  # spectral norm.
  ("msg_gan_v1", {"penalty": "r1"}, [(8, {})]),
  *(
    ("msg_progan", HELD_OUT | {"augment": policy}, [(8, {}), (2, PARTS)])
    for policy in ("diffaugment", "exact", "ada")
  ),
]


@pytest.mark.parametrize(
  ("preset", "fields", "others"),
  [*CASES, *(pytest.param(*x, marks=pytest.mark.slow) for x in SLOW_CASES)],
)
def test_a_batch_may_be_divided(preset, fields, others, float64):
  one = Run(small_config(preset, **fields)).train(3)
  for num_devices, changes in others:
    config = small_config(preset, **fields | changes)
    checks.validate(config, num_devices)
    divided = Run(config, num_devices).train(3)
    assert_same(divided.metrics, one.metrics)
    assert_same(divided.state, one.state)
  state = jax.device_get(one.state)
  assert_equal(state.ema_state, state.g_state)
  if preset == "msg_gan_v1":  # no moving average
    assert_equal(state.ema_params, state.g_params)


@pytest.mark.slow
def test_parts_keep_less_in_memory():
  config = small_config("msg_progan", batch_size=64, resolution=16)
  mesh, peaks = sharding.make_mesh(jax.devices()[:1]), []
  for config.micro_batch_size in (0, 4):
    compiled, _ = program.make_program(config, mesh).compile()
    peaks.append(compiled.memory_analysis().temp_size_in_bytes)
  assert peaks[1] < peaks[0] / 2
