"""Time the training step of a configuration on this machine.

  python -m msggan_jax.benchmark --config=configs/demo.py --steps=20
  python -m msggan_jax.benchmark --config=configs/ffhq.py --json=speed.json

No data set and no workdir is needed; with --loader the data set is prepared and
read, too.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

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


def main(argv: Sequence[str]) -> None:
  """Time what the flags say and print it."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  from msggan_jax import timing

  numbers = timing.measure_step(_CONFIG.value, _STEPS.value)
  if _LOADER.value:
    numbers |= timing.measure_loader(_CONFIG.value)
    ratio = numbers["loader_images_per_sec"] / numbers["images_per_sec"]
    numbers["loader_to_step"] = ratio
  for line in describe(numbers):
    print(line)
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(numbers, indent=2) + "\n")


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
