"""Where a step's time goes: bytes, products and seconds of every level."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from msggan_jax.planning.flops import Count, Kind
from msggan_jax.planning.instructions import Work
from msggan_jax.planning.tpu_slices import Chip


@dataclasses.dataclass(frozen=True)
class LevelCost:
  """The cost of a level in one step of one device.

  Attributes:
    level: Its resolution; None: work of no level, such as the optimizer.
    bytes_moved: Bytes read and written.
    flops: FLOPs of products.
    memory_secs: Time to move the bytes.
    compute_secs: Time of the products.
    secs: Time of both, where the slower counts for each instruction.
  """

  level: int | None
  bytes_moved: int
  flops: int
  memory_secs: float
  compute_secs: float
  secs: float


def costs_of(works: Iterable[Work], chip: Chip) -> list[LevelCost]:
  """Return the cost of each level on a chip, low to high.

  Args:
    works: Of a compiled step, see `instructions.works`.
    chip: Its peaks are reached: by bytes and products with padding.
  """
  costs = []
  for work in works:
    memory = work.bytes_moved / chip.hbm_bytes_per_sec
    compute = work.padded_flops / chip.flops_per_sec
    costs.append(
      LevelCost(
        level=work.level,
        bytes_moved=work.bytes_moved,
        flops=work.padded_flops,
        memory_secs=memory,
        compute_secs=compute,
        secs=max(memory, compute),
      )
    )
  return by_level(costs)


def floor_of(
  products: dict[Kind, Count],
  *,
  devices: int,
  flops_per_sec: Callable[[int], float],
  hbm_bytes_per_sec: float,
) -> list[LevelCost]:
  """Return the least cost of each level, low to high.

  Every product is made once, at full peak, and its operands and result move
  once, without padding. Everything else is fused into products.

  Args:
    products: Of the step on all devices, see `flops.count_products`.
    devices: Devices that share them equally.
    flops_per_sec: Bytes of an item -> peak of a device.
    hbm_bytes_per_sec: Memory bandwidth of a device.
  """
  costs = []
  for kind, count in products.items():
    moved, flops = count.bytes_moved / devices, count.flops / devices
    memory = moved / hbm_bytes_per_sec
    compute = flops / flops_per_sec(kind.item_bytes)
    costs.append(
      LevelCost(
        level=kind.level,
        bytes_moved=round(moved),
        flops=round(flops),
        memory_secs=memory,
        compute_secs=compute,
        secs=max(memory, compute),
      )
    )
  return by_level(costs)


def by_level(costs: Iterable[LevelCost]) -> list[LevelCost]:
  """Sum costs by level, low to high; work of no level comes first."""
  sums: dict[int | None, list] = {}
  for cost in costs:
    level, *values = dataclasses.astuple(cost)
    before = sums.get(level, [0] * len(values))
    sums[level] = [a + b for a, b in zip(before, values, strict=True)]
  return [
    LevelCost(level, *sums[level])
    for level in sorted(sums, key=lambda level: level or 0)
  ]


def table(levels: list[dict[str, Any]], device_batch_size: int) -> list[str]:
  """Return a table of the levels, per image, for people.

  Args:
    levels: `LevelCost`s as dictionaries.
    device_batch_size: Examples of the step.
  """
  head = "level", "GB", "GFLOP", "memory, ms", "products, ms", "ms", "share"
  all_secs = sum(level["secs"] for level in levels) or 1.0
  rows = [head]
  for level in levels:
    per_image = {
      k: v / device_batch_size for k, v in level.items() if k != "level"
    }
    rows.append(
      (
        f"{level['level']}x{level['level']}" if level["level"] else "other",
        f"{per_image['bytes_moved'] / 1e9:.3f}",
        f"{per_image['flops'] / 1e9:.1f}",
        f"{per_image['memory_secs'] * 1e3:.3f}",
        f"{per_image['compute_secs'] * 1e3:.3f}",
        f"{per_image['secs'] * 1e3:.3f}",
        f"{level['secs'] / all_secs:.1%}",
      )
    )
  return ["of one image:"] + [
    " ".join(f"{cell:>12}" for cell in row) for row in rows
  ]
