"""Times of the training step and of matrix products."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.planning import flops
from msggan_jax.runtime import machine, sharding

_WARM_UP_STEPS = 2
_MATRIX = 2048  # side of the matrices that measure the peak


def measure_step(config: ConfigDict, steps: int) -> dict[str, Any]:
  """Compile and time the real step on all devices, on random images.

  FLOPs are those of a step that computes the penalty, also of a lazy one.
  """
  run = program.make_program(config, sharding.make_mesh())
  config = run.stage  # the last one of a run that grows
  random = np.random.default_rng(0)
  batch = {
    name: random.integers(
      0, 256 if x.dtype == np.uint8 else 1, x.shape, x.dtype
    )
    for name, x in run.abstract_batch.items()
  }
  batch = sharding.put_batch(run.mesh, batch)
  state = run.create_state()
  compiled, compile_secs = run.compile()

  def take_step():
    nonlocal state
    state, metrics = compiled(state, batch)
    return metrics

  # A lazy penalty makes steps unequal, so times are means over its interval.
  rounds = math.ceil(steps / config.penalty_interval)
  secs = time_calls(take_step, rounds * config.penalty_interval)
  secs = np.reshape(secs, (rounds, -1)).mean(axis=1)
  step_secs = float(np.median(secs))
  # Before the matrices take memory of their own.
  peak_memory = machine.peak_bytes()
  peak = matmul_flops_per_sec()
  step_flops = flops.model_flops(
    run.plain_step, run.abstract_state, run.abstract_batch
  )
  return {
    "devices": run.mesh.size,
    "device_kind": run.mesh.devices.flat[0].device_kind,
    "batch_size": config.batch_size,
    "images_per_sec": config.batch_size / step_secs,
    "secs_per_kimg": 1000 * step_secs / config.batch_size,
    "step_secs": step_secs,
    "step_secs_quartiles": np.percentile(secs, [25, 75]).tolist(),
    "step_flops": step_flops,
    "flops_per_sec": step_flops / step_secs,
    "matmul_flops_per_sec": peak,
    "share_of_matmul_peak": step_flops / step_secs / peak,
    "compile_secs": compile_secs,
    "peak_memory_bytes": peak_memory,
  }


def matmul_flops_per_sec() -> float:
  """Measure the fastest float32 matrix product, on all devices at once."""
  mesh = sharding.make_mesh()
  # One independent product a device.
  shape = (mesh.size, _MATRIX, _MATRIX)
  x = jax.device_put(np.ones(shape, np.float32), sharding.along_batch(mesh))
  product = jax.jit(lambda x: x @ x)
  secs = min(time_calls(lambda: product(x), 10))
  return mesh.size * 2 * _MATRIX**3 / secs


def describe(numbers: dict[str, Any]) -> list[str]:
  """Return the numbers as lines for people."""
  low, high = numbers["step_secs_quartiles"]
  return [
    f"devices            {numbers['devices']} x {numbers['device_kind']}",
    f"batch              {numbers['batch_size']}",
    f"step               {numbers['step_secs']:.4g} s, half of them within "
    f"{low:.4g} to {high:.4g} s",
    f"speed              {numbers['images_per_sec']:.4g} images/s, "
    f"{numbers['secs_per_kimg']:.4g} s/kimg",
    f"model FLOPs        {numbers['step_flops'] / 1e9:.4g} G a step, "
    f"{numbers['flops_per_sec'] / 1e9:.4g} G/s",
    f"matrix product     {numbers['matmul_flops_per_sec'] / 1e9:.4g} GFLOP/s "
    f"in float32; the step reaches {numbers['share_of_matmul_peak']:.0%} of it",
    f"compilation        {numbers['compile_secs']:.3g} s",
    f"peak memory        {numbers['peak_memory_bytes'] / 2**30:.3g} GiB",
  ]


def time_calls(f: Callable[[], Any], count: int) -> list[float]:
  """Return the seconds of each call after warm-up, with its result's wait."""
  secs = []
  for _ in range(_WARM_UP_STEPS + count):
    began = time.monotonic()
    jax.block_until_ready(f())
    secs.append(time.monotonic() - began)
  return secs[_WARM_UP_STEPS:]
