"""Time the training step of a configuration on this machine.

  python -m msggan_jax.benchmark --config=configs/demo.py --steps=20
  python -m msggan_jax.benchmark --config=configs/ffhq.py --json=speed.json

No data set and no workdir is needed; with --loader the data set is prepared and
read, too.
"""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from msggan_jax import cli

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  help_string="Configuration file, with its argument after a colon.",
)
_STEPS = flags.DEFINE_integer(
  "steps", 10, "Steps to time, after two others.", lower_bound=1
)
_LOADER = flags.DEFINE_bool("loader", False, "Time the data set's loader, too.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
flags.mark_flag_as_required("config")

_WARM_UP_STEPS = 2
_MATRIX = 2048  # side of the matrices whose product measures the peak
_LOADER_SECS = 5.0


def main(argv: Sequence[str]) -> None:
  """Time what the flags say and print it."""
  del argv
  numbers = measure_step(_CONFIG.value, _STEPS.value)
  if _LOADER.value:
    numbers |= measure_loader(_CONFIG.value)
    ratio = numbers["loader_images_per_sec"] / numbers["images_per_sec"]
    numbers["loader_to_step"] = ratio
  for line in describe(numbers):
    print(line)
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(numbers, indent=2) + "\n")


def measure_step(config: ConfigDict, steps: int) -> dict[str, Any]:
  """Compile and time the real step on all devices, on random images.

  Args:
    config: The configuration.
    steps: How many are timed, one by one.

  Returns:
    Numbers by name, with units in the names.
  """
  # Here, so that --help and wrong flags answer at once.
  import jax

  from msggan_jax import configuration, flops, memory, program, sharding

  configuration.validate(config, jax.device_count())
  run = program.make_program(config, sharding.make_mesh())
  random = np.random.default_rng(0)
  batch = {
    name: random.integers(0, 256 if name == "image" else 1, x.shape, x.dtype)
    for name, x in run.abstract_batch.items()
  }
  batch = sharding.put_batch(run.mesh, batch)
  state = run.create_state()
  began = time.monotonic()
  compiled = run.step.lower(state, batch).compile()
  compile_secs = time.monotonic() - began

  def take_step():
    nonlocal state
    state, metrics = compiled(state, batch)
    return metrics

  secs = time_calls(take_step, steps)
  step_secs = float(np.median(secs))
  quartiles = np.percentile(secs, [25, 75]).tolist()
  # Last, because it takes its memory for good.
  peak_memory = memory.peak_bytes()
  peak = matmul_flops_per_sec()
  step_flops = flops.model_flops(
    run.step, run.abstract_state, run.abstract_batch
  )
  xla_flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
  return {
    "devices": run.mesh.size,
    "device_kind": run.mesh.devices.flat[0].device_kind,
    "batch_size": config.batch_size,
    "images_per_sec": config.batch_size / step_secs,
    "secs_per_kimg": 1000 * step_secs / config.batch_size,
    "step_secs": step_secs,
    "step_secs_quartiles": quartiles,
    "step_flops": step_flops,
    "xla_flops": xla_flops * run.mesh.size,
    "flops_per_sec": step_flops / step_secs,
    "matmul_flops_per_sec": peak,
    "share_of_matmul_peak": step_flops / step_secs / peak,
    "compile_secs": compile_secs,
    "peak_memory_bytes": peak_memory,
  }


def matmul_flops_per_sec() -> float:
  """Measure the fastest float32 matrix product, on all devices at once."""
  import jax

  from msggan_jax import sharding

  mesh = sharding.make_mesh()
  # A product a device, all of them independent.
  shape = (mesh.size, _MATRIX, _MATRIX)
  x = jax.device_put(np.ones(shape, np.float32), sharding.along_batch(mesh))
  product = jax.jit(lambda x: x @ x)
  secs = min(time_calls(lambda: product(x), 10))
  return mesh.size * 2 * _MATRIX**3 / secs


def measure_loader(config: ConfigDict) -> dict[str, float]:
  """Read batches for some seconds and do nothing with them."""
  from msggan_jax import data

  prepared = data.open_prepared(
    data.prepare(config.dataset, config.resolution, config.channels)
  )
  loader = data.make_loader(
    prepared, batch_size=config.batch_size, seed=config.seed
  )
  next(loader)
  began = time.monotonic()
  for count in itertools.count(1):
    next(loader)
    secs = time.monotonic() - began
    if secs > _LOADER_SECS:
      return {"loader_images_per_sec": count * config.batch_size / secs}


def time_calls(f: Callable[[], Any], count: int) -> list[float]:
  """Call a function and wait for its result, `count` times after warming up.

  Returns:
    Seconds of each call.
  """
  import jax

  secs = []
  for _ in range(_WARM_UP_STEPS + count):
    began = time.monotonic()
    jax.block_until_ready(f())
    secs.append(time.monotonic() - began)
  return secs[_WARM_UP_STEPS:]


def describe(numbers: dict[str, Any]) -> list[str]:
  """Say the numbers in lines for people."""
  low, high = numbers["step_secs_quartiles"]
  lines = [
    f"devices            {numbers['devices']} x {numbers['device_kind']}",
    f"batch              {numbers['batch_size']}",
    f"step               {numbers['step_secs']:.4g} s, half of them within "
    f"{low:.4g} to {high:.4g} s",
    f"speed              {numbers['images_per_sec']:.4g} images/s, "
    f"{numbers['secs_per_kimg']:.4g} s/kimg",
    f"model FLOPs        {numbers['step_flops'] / 1e9:.4g} G a step, "
    f"{numbers['flops_per_sec'] / 1e9:.4g} G/s",
    f"XLA's FLOPs        {numbers['xla_flops'] / 1e9:.4g} G a step, loops "
    "counted once",
    f"matrix product     {numbers['matmul_flops_per_sec'] / 1e9:.4g} GFLOP/s "
    f"in float32; the step reaches {numbers['share_of_matmul_peak']:.0%} of it",
    f"compilation        {numbers['compile_secs']:.3g} s",
    f"peak memory        {numbers['peak_memory_bytes'] / 2**30:.3g} GiB",
  ]
  if "loader_images_per_sec" in numbers:
    lines.append(
      f"loader alone       {numbers['loader_images_per_sec']:.4g} images/s, "
      f"{numbers['loader_to_step']:.3g} times the step's"
    )
  return lines


if __name__ == "__main__":
  cli.run(main)
