"""Plan a launch: does the configuration fit, and how fast will it be?

  python -m msggan_jax.plan --config=configs/ffhq.py --topology=v5e:16x16 \\
    --config.precision=bfloat16 --device_batch_size=8
  python -m msggan_jax.plan --config=configs/demo.py

The first compiles the real training step for a TPU slice you need not have; it
needs libtpu: pip install 'msggan-jax[tpu]'. The second compiles for this
machine. Full-size networks take minutes to compile.
"""

import os
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from msggan_jax.runtime import cli

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  help_string="Configuration file, with its argument after a colon.",
)
_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "TPU slice such as v5e:16x16, v4:2x2x2, v5p:2x2x1 or v6e:2x4.",
)
_DEVICE_BATCH_SIZE = flags.DEFINE_integer(
  "device_batch_size",
  None,
  "Sets config.batch_size to this for each device.",
  lower_bound=1,
)
_FIND_BATCH = flags.DEFINE_bool(
  "find_batch", False, "Find the largest batch of a device that fits."
)
_JSON = cli.define_json("One JSON object.")
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
  """Compile the step and print the plan."""
  del argv
  output = cli.JsonOutput(_JSON.value)
  # Programs for absent devices cannot be loaded from the cache.
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  # Imported late: a topology sets environment variables before JAX is used.
  from msggan_jax.planning import tpu_slices

  config = _CONFIG.value
  if _TOPOLOGY.value:
    devices, chip = tpu_slices.describe(_TOPOLOGY.value)
  from msggan_jax.planning import batch_size, estimate

  if not _TOPOLOGY.value:
    devices, chip = estimate.this_machine()
  from_file = cli.value_in_file("batch_size")
  config = batch_size.with_batch_size(config, from_file, len(devices))

  def plan_for(device_batch_size: int):
    resized = estimate.with_device_batch(
      config, device_batch_size, len(devices)
    )
    return estimate.make_plan(resized, devices, chip)

  if _FIND_BATCH.value:
    unit = config.micro_batch_size or config.stddev_group or 1
    plan, known = estimate.find_batch(plan_for, unit, chip.hbm_bytes)
    if plan is None:
      raise ValueError(
        f"even a batch of {unit} does not fit a device of {chip.kind}; choose "
        "bfloat16, config.remat_from or a smaller config.micro_batch_size"
      )
    found = {"largest": plan.device_batch_size, "known_to_be_largest": known}
  else:
    found = {}
    if _DEVICE_BATCH_SIZE.value:
      plan = plan_for(_DEVICE_BATCH_SIZE.value)
    else:
      plan = estimate.make_plan(config, devices, chip)
  numbers = plan.numbers() | found
  output.show(numbers, estimate.describe(numbers, config.total_kimg))


if __name__ == "__main__":
  cli.run(main)
