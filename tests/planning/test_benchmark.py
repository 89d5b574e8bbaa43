"""The benchmark and its count of FLOPs."""

import json

import jax
import jax.numpy as jnp
import pytest

from msggan_jax.algorithm import program
from msggan_jax.kernels import plain
from msggan_jax.kernels.by_platform import convolve
from msggan_jax.planning import flops, timing
from msggan_jax.runtime import sharding
from tests.algorithm.runs import small_config
from tests.commands import run_command

KEYS = {
  "images_per_sec",
  "step_secs",
  "step_flops",
  "compile_secs",
  "peak_memory_bytes",
  "matmul_flops_per_sec",
}
X = jax.ShapeDtypeStruct((2, 32, 32, 64), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32)
FORWARD = 2 * (2 * 32 * 32 * 128) * (9 * 64)


def test_numbers_of_a_step(monkeypatch):
  monkeypatch.setattr(timing, "_MATRIX", 64)
  config = small_config(batch_size=32, penalty_interval=2)
  numbers = timing.measure_step(config, steps=3)
  assert KEYS <= set(numbers)
  assert all(numbers[key] > 0 for key in KEYS)
  assert numbers["devices"] == 8
  assert numbers["images_per_sec"] == 32 / numbers["step_secs"]
  low, high = numbers["step_secs_quartiles"]
  assert low <= numbers["step_secs"] <= high
  assert len(timing.describe(numbers)) == 8


@pytest.mark.slow
def test_the_command(tmp_path):
  fields = ("resolution=8", "max_channels=4", "latent_size=4")
  run_command(
    "benchmark",
    *("--config=configs/demo.py", "--steps=2"),
    *(f"--config.{field}" for field in fields),
    f"--json={tmp_path / 'speed.json'}",
  )
  numbers = json.loads((tmp_path / "speed.json").read_text())
  assert KEYS <= set(numbers)


def test_flops_of_a_convolution_and_its_gradients():
  assert flops.model_flops(plain.convolve, X, KERNEL) == FORWARD
  # Winograd's form on CPUs does not change the model's FLOPs.
  assert flops.model_flops(convolve, X, KERNEL) == FORWARD
  gradients = jax.grad(lambda *a: jnp.sum(jnp.sin(convolve(*a))), (0, 1))
  assert flops.model_flops(gradients, X, KERNEL) == 3 * FORWARD


def test_loops_count_and_unused_products_do_not():
  a = jax.ShapeDtypeStruct((5, 7), jnp.float32)

  def f(a):
    unused = a @ a.T
    del unused
    return jax.lax.fori_loop(0, 3, lambda _, x: x + a.T @ a, jnp.zeros((7, 7)))

  assert flops.model_flops(f, a) == 3 * 2 * 7 * 7 * 5


def test_a_step_costs_the_same_on_any_number_of_devices():
  config = small_config("msg_progan", batch_size=32, resolution=4)
  counts = []
  for n in (1, 8):
    run = program.make_program(config, sharding.make_mesh(jax.devices()[:n]))
    step = flops.model_flops(run.step, run.abstract_state, run.abstract_batch)
    counts.append(step)
  assert counts[0] == counts[1] > 0
