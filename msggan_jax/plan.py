r"""Plan a launch: does the configuration fit, and how fast will it be?

  python -m msggan_jax.plan --config=configs/ffhq.py --topology=v5e:16x16 \
    --config.precision=bfloat16 --device_batch_size=8
  python -m msggan_jax.plan --config=configs/ffhq.py --gpu=h100:8 \
    --device_batch_size=16
  python -m msggan_jax.plan --config=configs/demo.py

The first two compile the real training step for a TPU slice and for GPUs you
have no access to; they need pip install 'msggan-jax[tpu]' and '[plan-gpu]'. The
third compiles for this machine. Full-size networks take minutes to compile.
"""

import os
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from msggan_jax.runtime import cli

_CONFIG = cli.define_config()
_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "TPU slice such as v5e:16x16, v4:2x2x2, v5p:2x2x1 or v6e:2x4.",
)
_GPU = flags.DEFINE_string(
  "gpu",
  None,
  "GPUs of a host, such as h100 or h100:8; also a100, a100_40, h200 and b200.",
)
_LEVELS = flags.DEFINE_bool(
  "levels", False, "Show bytes, products and time of every level."
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


def main() -> None:
  """Compile the step and print the plan."""
  output = cli.JsonOutput(_JSON.value)
  topology = _TOPOLOGY.value or _GPU.value
  if _TOPOLOGY.value and _GPU.value:
    raise ValueError("give either --topology or --gpu")
  if _FIND_BATCH.value and _DEVICE_BATCH_SIZE.value:
    raise ValueError("--find_batch chooses --device_batch_size: give one")
  if _LEVELS.value and not topology:
    raise ValueError("--levels needs --topology or --gpu")
  # Programs for absent devices cannot be loaded from the cache.
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  # Imported late: a topology sets environment variables before JAX is used.
  from msggan_jax.planning import devices as absent

  devices, chip = [], None
  if topology:
    devices, chip = absent.describe(topology)
  from msggan_jax.planning import description, estimate

  if not topology:
    devices, chip = estimate.this_machine()
  numbers = _compile(devices, chip)
  lines = description.describe(numbers)
  if _LEVELS.value:
    lines += description.level_table(numbers)
  output.show(numbers, lines)


def _compile(devices: list, chip: Any) -> dict[str, Any]:
  from msggan_jax.config.resolve import DoesNotFit, resolve
  from msggan_jax.models.stddev import examples_together
  from msggan_jax.planning import estimate

  def plan_for(device_batch_size: int | None) -> dict[str, Any]:
    config, origin = ConfigDict(_CONFIG.value), cli.config_origin()
    if device_batch_size:
      config.batch_size = device_batch_size * len(devices)
      config.grow_batch_sizes = ""
      origin["given"] = {*origin["given"], "batch_size"}
    origin["fits"] = lambda x: estimate.fits(x, devices, chip.hbm_bytes)
    try:
      config = resolve(config, len(devices), **origin)
    except DoesNotFit:
      if not _FIND_BATCH.value:
        raise
      config.remat_from = 4  # as small as it gets: the plan says how large
      config = resolve(config, len(devices), **origin)
    return estimate.make_plan(config, devices, chip)

  if not _FIND_BATCH.value:
    return plan_for(_DEVICE_BATCH_SIZE.value)
  config = _CONFIG.value
  unit = config.micro_batch_size or examples_together(config) or 1
  plan, known = estimate.find_batch(plan_for, unit, chip.hbm_bytes)
  if plan is None:
    raise ValueError(
      f"even a batch of {unit} does not fit a device of {chip.kind}; choose "
      "bfloat16, config.remat_from or a smaller config.micro_batch_size"
    )
  largest = plan["device_batch_size"]
  return plan | {"largest": largest, "known_to_be_largest": known}


if __name__ == "__main__":
  cli.run(main)
