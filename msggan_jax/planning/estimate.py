"""Estimates for a compiled step: memory and speed.

TPUs get three estimates of speed, side by side until a chip has judged:

- by peaks: half of the peak FLOPs, as XLA counts them, or the full memory
  bandwidth, whichever is slower;
- by instructions: for each one its products, padded to the matrix unit, at the
  full peak, or its bytes, with padding, whichever is slower, all added up;
- the compiler's own `optimal_seconds`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.planning import levels, timing, tpu_slices
from msggan_jax.planning.compilation import (
  Compilation,
  compile_step,
  with_remat,
)
from msggan_jax.runtime import memory, sharding

# An assumption, printed with every estimate: well-tuned convolutional networks
# reach about half of a TPU's peak.
SHARE_OF_PEAK = 0.5
_MOST_COMPILATIONS = 8  # of a search


@dataclasses.dataclass(frozen=True)
class Plan:
  """A configuration on some devices.

  Attributes:
    config: With its global batch.
    devices: The devices it was compiled for.
    chip: Their figures.
    compilation: The compiled step.
  """

  config: ConfigDict
  devices: list
  chip: tpu_slices.Chip
  compilation: Compilation

  @property
  def device_batch_size(self) -> int:
    """Return the examples per device."""
    return self.config.batch_size // len(self.devices)

  @property
  def step_secs(self) -> dict[str, float]:
    """Estimate a step's seconds by peaks.

    Returns:
      "compute" and "memory", whose maximum counts, "collectives", which are
      added, and "step".
    """
    made = self.compilation
    n = len(self.devices)
    # XLA counts a loop's body once: here the loop over parts of a batch.
    parts = self.device_batch_size / (
      self.config.micro_batch_size or self.device_batch_size
    )
    step_flops = made.xla_flops * parts
    if not self.chip.hbm_bytes_per_sec:
      # CPU forms have other loops, too; the plain form has more FLOPs.
      step_flops = max(step_flops, made.model_flops / n)
    compute = step_flops / (SHARE_OF_PEAK * self.chip.flops_per_sec)
    secs = {"compute": compute, "memory": 0.0}
    if self.chip.hbm_bytes_per_sec:
      moved = made.bytes_accessed * parts
      secs["memory"] = moved / self.chip.hbm_bytes_per_sec
    secs["collectives"] = self._collective_secs
    secs["step"] = max(compute, secs["memory"]) + secs["collectives"]
    return secs

  @property
  def level_costs(self) -> list[levels.LevelCost]:
    """Return the cost of each level; empty without a TPU program."""
    return levels.costs_of(self.compilation.works, self.chip)

  @property
  def instruction_secs(self) -> dict[str, float] | None:
    """Estimate a step's seconds by instructions; None without them.

    Returns:
      "compute" and "memory" alone, "collectives", and "step": the slower of the
      two for each instruction, added up, plus the collectives.
    """
    costs = self.level_costs
    if not costs:
      return None
    return {
      "compute": sum(cost.compute_secs for cost in costs),
      "memory": sum(cost.memory_secs for cost in costs),
      "collectives": self._collective_secs,
      "step": sum(cost.secs for cost in costs) + self._collective_secs,
    }

  @property
  def floor_secs(self) -> float | None:
    """Return the least seconds of the products; None without a bandwidth."""
    if not self.chip.hbm_bytes_per_sec:
      return None
    costs = levels.floor_of(
      self.compilation.products,
      devices=len(self.devices),
      flops_per_sec=lambda _: self.chip.flops_per_sec,
      hbm_bytes_per_sec=self.chip.hbm_bytes_per_sec,
    )
    return sum(cost.secs for cost in costs)

  @property
  def _collective_secs(self) -> float:
    if not self.chip.ici_bytes_per_sec:
      return 0.0
    # A ring sends and receives nearly twice what it reduces.
    n = len(self.devices)
    moved = 2 * (n - 1) / n * sum(self.compilation.collectives.values())
    return moved / self.chip.ici_bytes_per_sec

  @property
  def images_per_sec(self) -> float:
    """Estimate the speed of all devices together; 0 if it does not fit."""
    if not self.compilation.fits:
      return 0.0
    return self.config.batch_size / self.step_secs["step"]

  def numbers(self) -> dict[str, Any]:
    """Return everything by name, for programs."""
    made = self.compilation
    device_flops = made.model_flops / len(self.devices)
    instruction_secs = self.instruction_secs
    strict = None
    if instruction_secs:
      strict = self.config.batch_size / instruction_secs["step"]
    return {
      "devices": len(self.devices),
      "device_kind": self.chip.kind,
      "batch_size": self.config.batch_size,
      "device_batch_size": self.device_batch_size,
      "micro_batch_size": self.config.micro_batch_size,
      "remat_from": self.config.remat_from,
      "precision": self.config.precision,
      "hbm_bytes": made.memory_bytes,
      "hbm_parts_bytes": made.parts_bytes,
      "hbm_capacity_bytes": self.chip.hbm_bytes,
      "fits": made.fits,
      "flops_per_image": made.xla_flops / self.device_batch_size,
      "model_flops_per_image": device_flops / self.device_batch_size,
      "bytes_accessed": made.bytes_accessed,
      "collective_bytes": sum(made.collectives.values()),
      "collectives": made.collectives,
      "compile_secs": made.compile_secs,
      "step_secs_estimate": self.step_secs if made.fits else None,
      "images_per_sec_estimate": self.images_per_sec,
      "step_secs_by_instruction": instruction_secs,
      "images_per_sec_by_instruction": strict,
      "optimal_secs": made.optimal_secs,
      "floor_secs": self.floor_secs,
      "levels": [dataclasses.asdict(cost) for cost in self.level_costs],
    }


def this_machine() -> tuple[list, tpu_slices.Chip]:
  """Return this machine's devices and their figures, with a measured peak."""
  devices = jax.devices()
  peak = timing.matmul_flops_per_sec() / len(devices)
  return devices, tpu_slices.Chip(
    kind=devices[0].device_kind,
    hbm_bytes=memory.limit_bytes(),
    flops_per_sec=peak,
    hbm_bytes_per_sec=0.0,
    ici_bytes_per_sec=0.0,
  )


def make_plan(config: ConfigDict, devices: list, chip: tpu_slices.Chip) -> Plan:
  """Compile a configuration's step for devices.

  Raises:
    ValueError: If the configuration is impossible there.
  """
  checks.validate(config, len(devices))
  config = with_remat(config, devices, chip.hbm_bytes)
  run = program.make_program(config, sharding.make_mesh(devices))
  compilation = compile_step(run)
  # For hosts the compiler has no limit.
  fits = compilation.fits and compilation.memory_bytes <= chip.hbm_bytes
  compilation = dataclasses.replace(compilation, fits=fits)
  return Plan(config, devices, chip, compilation)


def with_device_batch(config: ConfigDict, size: int, devices: int):
  """Return a copy of the configuration with another batch a device."""
  config = config.copy_and_resolve_references()
  config.batch_size = size * devices
  return config


def describe(numbers: dict[str, Any], total_kimg: float) -> list[str]:
  """Return the numbers of a plan as lines for people."""

  def gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"

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
    f"FLOPs          {numbers['flops_per_image'] / 1e9:.4g} G an image as XLA "
    "counts (loops once), "
    f"{numbers['model_flops_per_image'] / 1e9:.4g} G of the model"
  )
  if not numbers["fits"]:
    return lines
  collectives = ", ".join(
    f"{kind} {size / 1e6:.4g} MB"
    for kind, size in numbers["collectives"].items()
  )
  secs = numbers["step_secs_estimate"]
  speed = numbers["images_per_sec_estimate"]
  return [
    *lines,
    f"bytes moved    {numbers['bytes_accessed'] / 1e9:.4g} GB a device's step",
    f"collectives    {collectives or 'none'}, a device's step",
    f"estimate       {speed:.4g} images/s, {1000 / speed:.4g} s/kimg, "
    f"{total_kimg * 1000 / speed / 86400:.3g} days to {total_kimg:g} kimg",
    f"assumed        {SHARE_OF_PEAK:.0%} of the peak in {secs['compute']:.3g} s"
    f" of computing, the full memory bandwidth in {secs['memory']:.3g} s, the "
    f"longer of them counts; then {secs['collectives']:.3g} s of collectives "
    "over all links; no waiting for data",
    *_describe_strict(numbers),
  ]


def _describe_strict(numbers: dict[str, Any]) -> list[str]:
  """Return the estimate by instructions as lines, if there is one."""
  secs = numbers["step_secs_by_instruction"]
  if not secs:
    return []
  compiler = numbers["optimal_secs"]
  says = f"{compiler:.3g} s" if compiler else "none: it is negative"
  if numbers["micro_batch_size"] and compiler:
    says += ", with one part of the batch"
  return [
    f"by instruction {numbers['images_per_sec_by_instruction']:.4g} images/s: "
    f"{secs['compute']:.3g} s of products, padded to the 128x128 unit, at the "
    f"full peak, {secs['memory']:.3g} s of memory, with padding; for each "
    f"instruction the longer of them counts: {secs['step']:.3g} s",
    f"the compiler's own {says}",
    f"floor          {numbers['floor_secs']:.3g} s: every product once, at the "
    "full peak or with its operands and result moved once, without padding",
  ]


def find_batch(
  plan_for: Callable[[int], Plan], unit: int, capacity: int
) -> tuple[Plan | None, bool]:
  """Find the largest batch of a device that fits.

  Memory grows nearly linearly, so each guess extrapolates the last two. The
  search ends when a fitting batch and one that is too large are neighbours.

  Args:
    plan_for: Device batch -> its plan.
    unit: Batches are multiples of this.
    capacity: Bytes of a device.

  Returns:
    The plan of the largest fitting batch found, or None, and whether it is
    known to be the largest.
  """
  best, too_large, points = None, None, []
  count = 1  # of units
  for _ in range(_MOST_COMPILATIONS):
    plan = plan_for(count * unit)
    points.append((count, plan.compilation.memory_bytes))
    if plan.compilation.fits:
      best = plan
      low = count
    else:
      too_large = count
      low = best.device_batch_size // unit if best else 0
    if too_large is not None and too_large - low <= 1:
      return best, True
    count = _next_count(points, capacity)
    count = max(count, low + 1)
    if too_large is not None:
      count = min(count, too_large - 1)
  return best, False


def _next_count(points: list[tuple[int, int]], capacity: int) -> int:
  if len(points) == 1:
    return 2 * points[0][0]
  (count_a, bytes_a), (count_b, bytes_b) = points[-2:]
  slope = (bytes_b - bytes_a) / (count_b - count_a)
  if slope <= 0:
    return 2 * max(count_a, count_b)
  return int(count_b + (capacity - bytes_b) / slope)
