"""Plans as lines for people; a dry run: the plan, the networks, the disk."""

import json
import math
from typing import Any

from clu import parameter_overview
from ml_collections import ConfigDict

from msggan_jax.algorithm import growth, program
from msggan_jax.planning.devices import GIB
from msggan_jax.planning.estimate import (
  COSTS,
  SHARE_OF_MEASURED_PEAK,
  make_plan,
  size_of,
  this_machine,
)
from msggan_jax.runtime import sharding


def describe(numbers: dict[str, Any]) -> list[str]:
  """Return the numbers of a plan as lines for people."""

  def gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"

  parts = ", ".join(
    f"{name} {gib(size)}" for name, size in numbers["hbm_parts_bytes"].items()
  )
  lines = [
    f"devices        {numbers['devices']} x {numbers['device_kind']}",
    f"batch          {numbers['batch_size']}, {numbers['device_batch_size']} a "
    f"device; precision {numbers['precision']}, remat_from "
    f"{numbers['remat_from']}, micro_batch_size {numbers['micro_batch_size']}",
    f"memory         {gib(numbers['hbm_bytes'])} of "
    f"{gib(numbers['hbm_capacity_bytes'])} a device: "
    + ("fits" if numbers["fits"] else "DOES NOT FIT")
    + (f" ({parts})" if parts else ""),
  ]
  if "largest" in numbers:
    words = "largest batch" if numbers["known_to_be_largest"] else "at least"
    lines.append(f"found          {words} {numbers['largest']} a device")
  lines.append(
    f"FLOPs          {numbers['model_flops_per_image'] / 1e9:.4g} G an image "
    f"of the model, {numbers['flops_per_image'] / 1e9:.4g} G as XLA counts "
    "(loops once, on GPUs nothing)"
  )
  lines += map(_describe_stage, numbers.get("stages", ()))
  if not numbers["fits"]:
    return lines
  collectives = ", ".join(
    f"{kind} {size / 1e6:.4g} MB"
    for kind, size in numbers["collectives"].items()
  )
  secs, total = numbers["step_secs_estimate"], numbers["total_kimg"]
  speed = numbers["images_per_sec_estimate"]
  assumed = (
    f"model FLOPs at {SHARE_OF_MEASURED_PEAK:.0%} of the measured peak of "
    "float32 matrix products"
  )
  if numbers["levels"]:
    assumed = (
      "products at the full peak (on TPUs padded to the 128x128 unit), "
      f"{secs['compute']:.3g} s, or bytes, with padding, at the full "
      f"bandwidth, {secs['memory']:.3g} s: the longer of each instruction; "
      f"then {secs['collectives']:.3g} s of collectives over all links; no "
      "launches"
    )
  if numbers["penalty_interval"] > 1:
    assumed += "; every step with the penalty"
  lines += [
    f"bytes moved    {numbers['bytes_per_image'] / 1e9:.4g} GB an image, floor "
    f"{numbers['floor_bytes_per_image'] / 1e9:.4g} GB: operands and results of "
    "every product once",
    f"collectives    {collectives or 'none'}, a device's step, in "
    f"{numbers['collective_calls']} calls",
    f"estimate       {speed:.4g} images/s, {1000 / speed:.4g} s/kimg, "
    f"{numbers['days_estimate']:.3g} days to {total:g} kimg",
    f"assumed        {assumed}; no waiting for data",
  ]
  if numbers["levels"]:
    kinds = ", ".join(
      f"{kind} {counts['bytes_moved'] / 1e9:.4g} GB in {counts['kernels']}"
      for kind, counts in numbers["kinds"].items()
    )
    precisions = ", ".join(
      f"{count} of {name}" for name, count in numbers["convolutions"].items()
    )
    lines += [
      f"kernels        {numbers['kernels']} a step: {kinds}",
      f"convolutions   {precisions}",
    ]
    lines.append(
      f"floor          {numbers['floor_secs']:.3g} s of {secs['step']:.3g} s a "
      "step: every product once, at the full peak or with its operands and "
      "result moved once, without padding"
    )
  return lines


def _describe_stage(stage: dict[str, Any]) -> str:
  return (
    f"stage {stage['resolution']:<9}{stage['kimg']:g} kimg in batches of "
    f"{stage['batch_size']}, {stage['hbm_bytes'] / GIB:.2f} GiB"
    f"{'' if stage['fits'] else ' DOES NOT FIT'}, "
    f"{stage['images_per_sec_estimate']:.4g} images/s"
  )


def level_table(numbers: dict[str, Any]) -> list[str]:
  """Return a table of a plan's levels, per image, for people."""
  rows = ["level|GB|GFLOP|memory, ms|products, ms|ms|floor, ms".split("|")]
  size = numbers["device_batch_size"]
  for level in numbers["levels"]:
    moved, flops, *secs = (level[name] / size for name in COSTS)
    name = "{0}x{0}".format(level["level"]) if level["level"] else "other"
    millis = [f"{1e3 * x:.3f}" for x in secs]
    rows.append([name, f"{moved / 1e9:.3f}", f"{flops / 1e9:.1f}", *millis])
  lines = [" ".join(f"{cell:>12}" for cell in row) for row in rows]
  return ["of one image:", *lines]


def dry_run(config: ConfigDict) -> list[str]:
  """Compile the step for this machine and describe the run in lines."""
  devices, chip = this_machine()
  numbers = make_plan(config, devices, chip)
  run = program.make_program(config, sharding.make_mesh(devices))
  state = run.abstract_state
  state_bytes = size_of(state)
  # The newest, one being written, the best, and those of keep_kimg.
  checkpoints = config.keep + 1 + bool(config.eval_kimg)
  if config.keep_kimg:
    checkpoints += math.floor(config.total_kimg / config.keep_kimg)
  generator, discriminator = (
    parameter_overview.get_parameter_overview(params, include_stats=False)
    for params in (state.g_params, state.d_params)
  )
  return [
    json.dumps(config.to_dict(), indent=2, sort_keys=True),
    "generator",
    generator,
    "discriminator",
    discriminator,
    *(
      f"steps          {phase.steps:,} of {phase.batch_size} images at "
      f"{phase.resolution} pixels{', fading' if phase.fades else ''}"
      for phase in growth.phases(config)
    ),
    *describe(numbers),
    f"disk           {checkpoints * state_bytes / GIB:.3g} GiB for at most "
    f"{checkpoints} checkpoints of {state_bytes / GIB:.3g} GiB"
    + (", without averages/" if config.ema_averages else ""),
  ]
