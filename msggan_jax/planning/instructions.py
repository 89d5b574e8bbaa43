"""Read a compiled program's text: work of its instructions, collectives.

TPUs pad an array's minor dimensions to tiles, and a matrix product's operands
to the 128x128 matrix unit. Both count here as padded, from the layouts in the
program's text. Loops count as often as they run.
"""

import collections
import math
import re
from typing import NamedTuple

_STEPS_BACK = 8  # toward an instruction with a name
_ITEM_BYTES = (
  dict.fromkeys(("pred", "s8", "u8"), 1)
  | dict.fromkeys(("bf16", "f16"), 2)
  | dict.fromkeys(("s64", "u64", "f64"), 8)
)  # others: 4
# bfloat16 products that make up one of float32.
_PASSES = {"default": 1, "high": 3, "highest": 6}
# Opcodes that move nothing, or whose computations are counted by themselves.
_FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast while conditional call "
  "after-all copy-done partition-id all-reduce all-reduce-start "
  "all-reduce-done".split()
)
_COLLECTIVE = re.compile(
  r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all"
  r"|collective-permute)(-start)?\("
)
_HEADER = re.compile(r"(?:ENTRY )?%(\S+) \(.*\{$")
_INSTRUCTION = re.compile(
  r"\s+(?:ROOT )?%(\S+) = (.+?) ([a-z][a-z0-9-]*)\((.*)"
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")


class Array(NamedTuple):
  """An array of a compiled program."""

  item_bytes: int
  shape: tuple[int, ...]
  tiles: tuple[int, ...]  # the multiple that each dimension is padded to
  in_hbm: bool  # in the chip's main memory

  @property
  def padded_bytes(self) -> int:
    """Return its bytes with padding."""
    sizes = map(_round_up, self.shape, self.tiles)
    return self.item_bytes * math.prod(sizes)


class Work(NamedTuple):
  """The work of an instruction, all its executions together."""

  level: int | None  # resolution, from its name; None: of no level
  bytes_moved: int  # operands and results in main memory, with padding
  padded_flops: int  # of convolutions, in passes of bfloat16


class _Instruction(NamedTuple):
  arrays: list[Array]  # its result, or its results
  opcode: str
  operands: list[str]
  number: str  # of a parameter
  attributes: str

  @property
  def called(self) -> dict[str, str]:
    """Return the computations that it calls, by the attribute's name."""
    pairs = re.findall(r"(\w+)=%([^\s,}]+)", self.attributes)
    branches = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
    if branches:
      names = re.findall(r"%([^\s,}]+)", branches[1])
      pairs += [(f"branch_{i}", name) for i, name in enumerate(names)]
    return dict(pairs)


_Computation = dict[str, _Instruction]


def parse_arrays(text: str) -> list[Array]:
  """Return the arrays of a type such as bf16[8,128]{1,0:T(8,128)}."""
  arrays = []
  for kind, sizes, layout in _ARRAY.findall(text):
    shape = tuple(int(size) for size in sizes.split(",") if size)
    order, _, tiling = layout.partition(":")
    tiles = [1] * len(shape)
    tile = re.match(r"T\(([\d,]+)\)", tiling)
    if tile and order:
      sizes = [int(size) for size in tile[1].split(",")]
      # Layouts name the minor dimension first, tiles name it last.
      minor = [int(axis) for axis in order.split(",")]
      for axis, size in zip(minor, reversed(sizes), strict=False):
        tiles[axis] = size
    arrays.append(
      Array(_ITEM_BYTES.get(kind, 4), shape, tuple(tiles), "S(1)" not in tiling)
    )
  return arrays


def works(hlo: str) -> list[Work]:
  """Return the work of every instruction that a module's text executes."""
  computations, entry = _parse(hlo)
  found: list[Work] = []

  def visit(name: str, times: int) -> None:
    computation = computations[name]
    for instruction in computation.values():
      inner = instruction.called
      if instruction.opcode == "while":
        trips = _trips(instruction, computations[inner["condition"]])
        visit(inner["body"], times * trips)
      elif instruction.opcode == "conditional":
        # Of the branches of a lazy penalty, the last computes it.
        visit(list(inner.values())[-1], times)
      elif instruction.opcode == "call":
        visit(inner["to_apply"], times)
      elif instruction.opcode not in _FREE:
        fused = computations.get(inner.get("calls", ""), {})
        flops = sum(_flops_of(each, fused) for each in fused.values())
        flops += _flops_of(instruction, computation)
        moved = _bytes_of(instruction, computation, fused)
        level = _level(instruction, computation)
        found.append(Work(level, times * moved, times * flops))

  visit(entry, 1)
  return found


def collective_bytes(hlo: str) -> dict[str, int]:
  """Sum the bytes of the collectives' results in a module's text, by kind."""
  totals = collections.Counter()
  for kinds, opcode, start in _COLLECTIVE.findall(hlo):
    arrays = parse_arrays(kinds)
    if start and opcode != "all-reduce":
      arrays = arrays[1:2]  # (operand, result, ...)
    totals[opcode] += sum(x.item_bytes * math.prod(x.shape) for x in arrays)
  return dict(totals)


def padded_flops(lhs: Array, rhs: Array, out: Array, attributes: str) -> int:
  """Return the FLOPs of a convolution as the matrix unit executes it.

  Every dimension counts with the padding of the array that pads it most, and
  float32 with its passes of bfloat16. `attributes` have window and labels.
  """
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
  arrays = (lhs, rhs, out)

  def size(*places: tuple[int, str]) -> int:
    """Return the largest padded size of a dimension in several arrays."""
    return max(
      _round_up(arrays[i].shape[axis], arrays[i].tiles[axis])
      for i, label in places
      for axis in [labels[i + 1].index(label)]
    )

  flops = 2 * size((0, "b"), (2, "b")) * size((1, "o"), (2, "f"))
  grouped = re.search(r"(feature|batch)_group_count", attributes)
  flops *= size((1, "i")) if grouped else size((0, "f"), (1, "i"))
  for axis in range(len(out.shape) - 2):
    flops *= size((2, str(axis))) * size((1, str(axis)))
  # Zeros between pixels are not multiplied.
  dilation = re.search(r"lhs_dilate=([\dx]+)", attributes)
  if dilation:
    flops //= math.prod(map(int, dilation[1].split("x")))
  precision = re.search(r"operand_precision=\{(\w+)", attributes)
  if precision and max(lhs.item_bytes, rhs.item_bytes) > 2:
    flops *= _PASSES[precision[1]]
  return flops


def _parse(hlo: str) -> tuple[dict[str, _Computation], str]:
  """Return the computations by name, and the name of the first to run."""
  computations: dict[str, _Computation] = {}
  current: _Computation = {}
  entry = ""
  for line in hlo.splitlines():
    header = _HEADER.match(line)
    if header:
      current = computations.setdefault(header[1], {})
      entry = header[1] if line.startswith("ENTRY") else entry
      continue
    match = _INSTRUCTION.match(line)
    if match:
      name, kind, opcode, rest = match.groups()
      operands, _, attributes = rest.partition(")")
      current[name] = _Instruction(
        arrays=parse_arrays(kind),
        opcode=opcode,
        operands=re.findall(r"%([^\s,)]+)", operands),
        attributes=attributes,
        number=operands,
      )
  return computations, entry


def _trips(loop: _Instruction, condition: _Computation) -> int:
  """Return how often a loop's body runs."""
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if known:
    return int(known[1])
  # TPU programs omit it. A scan counts from 0 to its condition's constant.
  constants = (i.number for i in condition.values() if i.opcode == "constant")
  return max((int(n) for n in constants if n.isdecimal()), default=1)


def _flops_of(instruction: _Instruction, computation: _Computation) -> int:
  if instruction.opcode != "convolution":  # as matrix products are, too
    return 0
  lhs, rhs = (computation[name].arrays[0] for name in instruction.operands)
  return padded_flops(lhs, rhs, instruction.arrays[0], instruction.attributes)


def _bytes_of(
  instruction: _Instruction, computation: _Computation, fused: _Computation
) -> int:
  """Return the bytes moved; of an array sliced or updated in part, the part."""
  if instruction.opcode in ("dynamic-slice", "slice"):
    return 2 * _hbm_bytes(instruction.arrays)
  if instruction.opcode == "dynamic-update-slice":
    return 2 * _hbm_bytes(computation[instruction.operands[1]].arrays)
  written = instruction.arrays
  if instruction.opcode == "copy-start":
    written = written[:1]
  parameters = [i for i in fused if fused[i].opcode == "parameter"]
  parameters.sort(key=lambda i: int(fused[i].number))
  total = 0
  for index, name in enumerate(instruction.operands):
    read = computation[name].arrays if name in computation else []
    if parameters:
      users = [i for i in fused.values() if parameters[index] in i.operands]
      partial = all(i.operands[0] == parameters[index] for i in users)
      if partial and all(i.opcode == "dynamic-slice" for i in users):
        read = [array for i in users for array in i.arrays]
      elif partial and all(i.opcode == "dynamic-update-slice" for i in users):
        updates = [fused[i.operands[1]].arrays[0] for i in users]
        read, written = [], 2 * updates
    total += _hbm_bytes(read)
  return total + _hbm_bytes(written)


def _level(instruction: _Instruction, computation: _Computation) -> int | None:
  """Return the level in an instruction's name or its operands' names."""
  for _ in range(_STEPS_BACK):
    match = re.search(r"level_(\d+)", instruction.attributes)
    if match:
      return int(match[1])
    operands = [computation.get(name) for name in instruction.operands]
    largest = max(
      filter(None, operands), key=lambda i: _hbm_bytes(i.arrays), default=None
    )
    if largest is None or '"' in instruction.attributes.split("backend")[0]:
      return None
    instruction = largest
  return None


def _hbm_bytes(arrays: list[Array]) -> int:
  return sum(array.padded_bytes for array in arrays if array.in_hbm)


def _round_up(size: int, multiple: int) -> int:
  return -(-size // multiple) * multiple
