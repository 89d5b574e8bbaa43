"""A run before it starts: memory and speed, from its compiled step.

On an accelerator, each instruction takes the time of its products, padded to
the matrix unit of TPUs, at the full peak, or of its bytes, with TPUs' padding,
at the full bandwidth, whichever is longer; a step takes the sum, and then the
collectives. On a CPU it takes the model's FLOPs at half of the measured peak.

The floor makes every product once, at the full peak, and moves its operands and
result once, without padding; everything else is fused into products.
"""

import collections
import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import growth, program
from msggan_jax.algorithm.program import Program
from msggan_jax.planning import flops, instructions, timing
from msggan_jax.planning.devices import CUDNN_WORKSPACE, Chip
from msggan_jax.planning.instructions import Work
from msggan_jax.runtime import machine, sharding

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SHARE_OF_MEASURED_PEAK = 0.5
_MOST_COMPILATIONS = 8  # of a search
# Of the configuration, in a plan.
_FIELDS = (
  *("batch_size", "micro_batch_size", "penalty_interval", "remat_from"),
  *("precision", "total_kimg"),
)
_STAGE = (
  *("resolution", "kimg", "batch_size", "hbm_bytes", "fits"),
  "images_per_sec_estimate",
)
COSTS = "bytes_moved flops memory_secs compute_secs secs floor_secs".split()


class Compilation(NamedTuple):
  """A compiled step, or the failure to compile it; bytes are per device."""

  fits: bool  # the compiler found room for it; on hosts always
  compile_secs: float
  memory_bytes: int  # on TPUs the peak and the waiting batches, else all parts
  parts_bytes: dict[str, int]  # TPUs reuse the space of some temporaries
  xla_flops: float  # every loop's body once
  bytes_accessed: float  # by XLA's count
  text: str  # of the program


def compile_step(run: Program) -> Compilation:
  """Compile the step for the program's devices."""
  began = time.monotonic()
  try:
    compiled, secs = run.compile()
  except jax.errors.JaxRuntimeError as error:
    needed = parse_exhausted(str(error))
    if needed is None:
      raise
    secs = time.monotonic() - began
    return Compilation(False, secs, needed, {}, 0.0, 0.0, "")
  memory = compiled.memory_analysis()
  parts = {
    "arguments": memory.argument_size_in_bytes,
    "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  text = compiled.as_text()
  if '"algo_id":"-1"' in text:  # chosen on the device
    parts["cuDNN's workspace, at most"] = CUDNN_WORKSPACE
  needed = sum(parts.values())
  if run.mesh.devices.flat[0].platform == "tpu":
    needed = memory.peak_memory_in_bytes
  # One batch is among the arguments; the others wait beside it.
  batch = size_of(run.abstract_batch)
  parts["waiting batches"] = (program.RUN_AHEAD - 1) * batch // run.mesh.size
  needed += parts["waiting batches"]
  cost = compiled.cost_analysis() or {}
  return Compilation(
    fits=True,
    compile_secs=secs,
    memory_bytes=needed,
    parts_bytes=parts,
    xla_flops=cost.get("flops", 0.0),
    bytes_accessed=cost.get("bytes accessed", 0.0),
    text=text,
  )


def fits(
  config: ConfigDict,
  devices: list | None = None,
  limit_bytes: int | None = None,
) -> bool:
  """Compile a configuration's step; return whether it fits in memory.

  Of a run that grows every stage must fit. Devices need not exist; by default
  they are those of this machine. `limit_bytes` is the memory of one.
  """
  run = program.make_program(config, sharding.make_mesh(devices))
  limit = machine.limit_bytes() if limit_bytes is None else limit_bytes
  steps = (compile_step(run.at(r)) for r in growth.stages(config)[::-1])
  return all(made.fits and made.memory_bytes <= limit for made in steps)


def size_of(tree: Any) -> int:
  """Return the bytes of a tree of arrays or of their shapes."""
  leaves = jax.tree.leaves(tree)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def parse_exhausted(message: str) -> int | None:
  """Return the bytes that a compiler's error asks for; None: another error."""
  if "RESOURCE_EXHAUSTED" not in message:
    return None
  match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT]?)", message)
  if not match:
    return 0
  return round(float(match[1]) * _UNITS[match[2]])


def this_machine() -> tuple[list, Chip]:
  """Return this machine's devices and their figures, with a measured peak."""
  devices = jax.devices()
  peak = timing.matmul_flops_per_sec() / len(devices)
  return devices, Chip(devices[0].device_kind, machine.limit_bytes(), peak)


def make_plan(config: ConfigDict, devices: list, chip: Chip) -> dict[str, Any]:
  """Compile the step of a resolved configuration; return its numbers.

  Of a run that grows they are the last stage's, with "stages" for every one.
  """
  run = program.make_program(config, sharding.make_mesh(devices))
  plans, days = [], 0.0
  for resolution in growth.stages(config):
    plan = _plan_stage(run.at(resolution), devices, chip)
    own = growth.phases_of(config, resolution)
    images = sum(phase.steps * phase.batch_size for phase in own)
    plan |= {"resolution": resolution, "kimg": images / 1000}
    days += images / (plan["images_per_sec_estimate"] or math.inf) / 86400
    plans.append(plan)
  plan = plans[-1]
  if len(plans) > 1:
    plan = plan | {"stages": [{k: p[k] for k in _STAGE} for p in plans]}
    plan["fits"] = all(p["fits"] for p in plans)
  return plan | {"days_estimate": days if plan["fits"] else None}


def _plan_stage(run: Program, devices: list, chip: Chip) -> dict[str, Any]:
  config, made = run.stage, compile_step(run)
  # For hosts the compiler has no limit.
  fits = made.fits and made.memory_bytes <= chip.hbm_bytes
  size = config.batch_size // len(devices)
  products = flops.count_products(
    run.plain_step, run.abstract_state, run.abstract_batch
  )
  model_flops = flops.total(products)
  known = made.text and chip.hbm_bytes_per_sec  # not those of a CPU
  works = instructions.works(made.text, chip) if known else []
  levels = level_costs(works, products, chip, len(devices))
  calls = instructions.collectives(made.text)
  collectives = {kind: sum(sizes) for kind, sizes in calls.items()}
  secs = step_secs(levels, model_flops, collectives, chip, len(devices))
  moved = sum(work.bytes_moved for work in works) or made.bytes_accessed
  precisions = collections.Counter()
  for work in works:
    if work.products:
      precisions[work.products] += work.kernels
  floor_bytes = sum(count.bytes_moved for count in products.values())
  return {
    "devices": len(devices),
    "device_kind": chip.kind,
    "device_batch_size": size,
    **{name: config[name] for name in _FIELDS},
    "hbm_bytes": made.memory_bytes,
    "hbm_parts_bytes": made.parts_bytes,
    "hbm_capacity_bytes": chip.hbm_bytes,
    "fits": fits,
    "compiled": bool(made.text),
    "bytes_per_image": moved / size,
    "floor_bytes_per_image": floor_bytes / config.batch_size,
    "kernels": sum(work.kernels for work in works),
    "kinds": _kinds(works),
    "convolutions": dict(precisions),
    "flops_per_image": made.xla_flops / size,
    "model_flops_per_image": model_flops / config.batch_size,
    "bytes_accessed": made.bytes_accessed or moved,
    "collective_bytes": sum(collectives.values()),
    "collectives": collectives,
    "collective_calls": sum(map(len, calls.values())),
    "compile_secs": made.compile_secs,
    "step_secs_estimate": secs if fits else None,
    "images_per_sec_estimate": config.batch_size / secs["step"] if fits else 0,
    "floor_secs": sum(level["floor_secs"] for level in levels) or None,
    "levels": levels,
  }


def level_costs(
  works: list[Work], products: flops.Products, chip: Chip, devices: int
) -> list[dict[str, Any]]:
  """Return each level's costs in one step of a device, low to high.

  Work of no level, such as the optimizer's, comes first. Empty without works.
  """
  if not works:
    return []

  def secs(moved: float, computed: float) -> tuple[float, float]:
    return moved / chip.hbm_bytes_per_sec, computed / chip.flops_per_sec

  sums = collections.defaultdict(collections.Counter)
  for work in works:
    memory_secs, compute_secs = secs(work.bytes_moved, work.padded_flops)
    sums[work.level].update(
      bytes_moved=work.bytes_moved,
      flops=work.padded_flops,
      memory_secs=memory_secs,
      compute_secs=compute_secs,
      secs=max(memory_secs, compute_secs),
    )
  for (level, *precision), (count, moved) in products.items():
    count *= chip.passes(*precision)
    least = max(secs(moved / devices, count / devices))
    sums[level]["floor_secs"] += least
  return [
    {"level": level} | {name: sums[level][name] for name in COSTS}
    for level in sorted(sums, key=lambda level: level or 0)
  ]


def _kinds(works: list[Work]) -> dict[str, dict[str, int]]:
  """Return kernels and bytes of each kind of work, most bytes first."""
  sums = collections.defaultdict(collections.Counter)
  for work in works:
    sums[work.kind].update(kernels=work.kernels, bytes_moved=work.bytes_moved)
  by_bytes = sorted(sums.items(), key=lambda item: -item[1]["bytes_moved"])
  return {kind: dict(counts) for kind, counts in by_bytes}


def step_secs(
  levels: list[dict[str, Any]],
  model_flops: int,
  collectives: dict[str, int],
  chip: Chip,
  devices: int,
) -> dict[str, float]:
  """Estimate a step's seconds: "compute" and "memory" alone, and others."""
  collective = 0.0
  if chip.ici_bytes_per_sec:
    # A ring sends and receives nearly twice what it reduces.
    moved = 2 * (devices - 1) / devices * sum(collectives.values())
    collective = moved / chip.ici_bytes_per_sec
  compute, memory, step = (
    sum(level[name] for level in levels)
    for name in ("compute_secs", "memory_secs", "secs")
  )
  if not levels:
    peak = devices * chip.flops_per_sec
    compute = step = model_flops / (SHARE_OF_MEASURED_PEAK * peak)
  return {
    "compute": compute,
    "memory": memory,
    "collectives": collective,
    "step": step + collective,
  }


def find_batch(
  plan_for: Callable[[int], dict[str, Any]], unit: int, capacity: int
) -> tuple[dict[str, Any] | None, bool]:
  """Find the largest batch of a device that fits.

  Memory grows nearly linearly, so each guess extrapolates the last two. The
  search ends when a fitting batch and one that is too large are neighbors.
  Batches are multiples of `unit`; `capacity` is in bytes of a device.

  Returns:
    The plan of the largest fitting batch found, or None, and whether it is
    known to be the largest.
  """
  best, low, too_large, points = None, 0, math.inf, []
  count = 1  # of units
  for _ in range(_MOST_COMPILATIONS):
    plan = plan_for(count * unit)
    points.append((count, plan["hbm_bytes"]))
    if plan["fits"]:
      best, low = plan, count
    else:
      too_large = count
    if too_large - low <= 1:
      return best, True
    count = min(max(_next_count(points, capacity), low + 1), too_large - 1)
  return best, False


def _next_count(points: list[tuple[int, int]], capacity: int) -> int:
  if len(points) == 1:
    return 2 * points[0][0]
  (count_a, bytes_a), (count_b, bytes_b) = points[-2:]
  slope = (bytes_b - bytes_a) / (count_b - count_a)
  if slope <= 0:
    return 2 * max(count_a, count_b)
  return int(count_b + (capacity - bytes_b) / slope)
