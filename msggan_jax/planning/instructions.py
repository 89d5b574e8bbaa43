"""Read a compiled program's text: work of its instructions, collectives.

TPUs pad an array's minor dimensions to tiles, and a matrix product's operands
to the 128x128 matrix unit. Both count here as padded, from the layouts in the
program's text; GPUs pad nothing. Loops count as often as they run.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from msggan_jax.planning.devices import Chip

_STEPS_BACK = 8  # toward an instruction with a name
_ITEM_BYTES = (
  dict.fromkeys(("pred", "s8", "u8"), 1)
  | dict.fromkeys(("bf16", "f16"), 2)
  | dict.fromkeys(("s64", "u64", "f64"), 8)
)  # others: 4
# Opcodes that move nothing in the chip's memory.
_FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all copy-done "
  "partition-id all-reduce all-reduce-start all-reduce-done".split()
)
_CUDNN = re.compile(r"custom_call_target=\"__cudnn\$conv(\w+)")
# By the opcodes of an instruction and of those fused into it.
_KINDS = {
  "product": {"dot"},
  "copy": {"copy", "copy-start", "transpose"},
  "reduction": {"reduce", "reduce-window"},
}
_COLLECTIVES = frozenset(
  "all-reduce all-gather reduce-scatter all-to-all collective-permute".split()
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
  padded_flops: int  # of products, in passes of bfloat16
  kind: str  # convolution, product, copy, reduction or elementwise
  kernels: int  # executions
  products: str  # dtype and precision of a convolution, or empty


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


# An instruction, the computation that has it, the one fused into it, how often
# it runs.
_Executed = tuple[_Instruction, _Computation, _Computation, int]


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


def works(hlo: str, chip: Chip) -> list[Work]:
  """Return the work of every instruction that a module's text executes."""
  found = []
  for instruction, computation, fused, times in _executed(hlo):
    if instruction.opcode in _FREE:
      continue
    products = [_product_of(each, fused, chip) for each in fused.values()]
    products += [_product_of(instruction, computation, chip)]
    moved = _bytes_of(instruction, computation, fused)
    work = Work(
      level=_level(instruction, computation),
      bytes_moved=times * moved,
      padded_flops=times * sum(flops for flops, _ in products),
      kind=_kind_of(instruction, fused),
      kernels=times,
      products="".join(name for _, name in products),
    )
    found.append(work)
  return found


def collectives(hlo: str) -> dict[str, list[int]]:
  """Return the bytes of the results of each executed collective, by kind."""
  found = collections.defaultdict(list)
  for instruction, _, fused, times in _executed(hlo):
    for each in (instruction, *fused.values()):
      opcode, arrays = each.opcode.removesuffix("-start"), each.arrays
      if opcode not in _COLLECTIVES:
        continue
      if opcode != each.opcode and opcode != "all-reduce":
        arrays = arrays[1:2]  # (operand, result, ...)
      size = sum(x.item_bytes * math.prod(x.shape) for x in arrays)
      found[opcode] += [size] * times
  return dict(found)


def padded_flops(lhs: Array, rhs: Array, out: Array, attributes: str) -> int:
  """Return the FLOPs of a convolution as the matrix unit executes it.

  Every dimension counts with the padding of the array that pads it most.
  `attributes` have window and labels.
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


def _executed(hlo: str) -> Iterator[_Executed]:
  """Yield the instructions that a module's text executes; of "", none."""
  computations, entry = _parse(hlo)

  def visit(name: str, times: int) -> Iterator[_Executed]:
    for instruction in computations[name].values():
      inner = instruction.called
      if instruction.opcode == "while":
        trips = _trips(instruction, computations[inner["condition"]])
        yield from visit(inner["body"], times * trips)
      elif instruction.opcode == "conditional":
        # Of the branches of a lazy penalty, the last computes it.
        yield from visit(list(inner.values())[-1], times)
      elif instruction.opcode == "call":
        yield from visit(inner["to_apply"], times)
      else:
        fused = computations.get(inner.get("calls", ""), {})
        yield instruction, computations[name], fused, times

  return visit(entry, 1) if entry else iter(())


def _trips(loop: _Instruction, condition: _Computation) -> int:
  """Return how often a loop's body runs."""
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if known:
    return int(known[1])
  # TPU programs omit it. A scan counts from 0 to its condition's constant.
  constants = (i.number for i in condition.values() if i.opcode == "constant")
  return max((int(n) for n in constants if n.isdecimal()), default=1)


def _product_of(
  instruction: _Instruction, computation: _Computation, chip: Chip
) -> tuple[int, str]:
  """Return the FLOPs, in passes of bfloat16, and a convolution's precision."""
  attributes = instruction.attributes
  cudnn = _CUDNN.search(attributes)
  if not cudnn and instruction.opcode not in ("convolution", "dot"):
    return 0, ""
  first, second = (
    computation[name].arrays[0] for name in instruction.operands[:2]
  )
  result = instruction.arrays[0]
  if instruction.opcode == "dot":
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", attributes)
    terms = math.prod(first.shape[int(i)] for i in axes[1].split(",") if i)
    flops = 2 * terms * math.prod(result.shape)
  else:  # on TPUs, as matrix products are, too
    # cuDNN's labels are those of the convolution that it differentiates.
    arrays = {
      "BackwardInput": (result, second, first),
      "BackwardFilter": (first, result, second),
    }.get(cudnn[1] if cudnn else "", (first, second, result))
    flops = padded_flops(*arrays, attributes)
  stated = re.search(r"operand_precision=\{(\w+)", attributes)
  precision = stated[1] if stated else "default"
  size = max(first.item_bytes, second.item_bytes)
  names = {"highest": "true float32", "default": "fast float32"}
  name = names.get(precision, precision) if size > 2 else "bfloat16"
  return (
    round(flops * chip.passes(size, precision)),
    "" if instruction.opcode == "dot" else name,
  )


def _kind_of(instruction: _Instruction, fused: _Computation) -> str:
  opcodes = {each.opcode for each in (instruction, *fused.values())}
  if "convolution" in opcodes or _CUDNN.search(instruction.attributes):
    return "convolution"
  for kind, found in _KINDS.items():
    if opcodes & found:
      return kind
  return "elementwise"


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
