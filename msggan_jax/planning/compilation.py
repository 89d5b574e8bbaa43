"""A compiled training step: memory, work, collectives."""

import dataclasses
import math
import re
import time

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.algorithm.program import Program
from msggan_jax.models.pyramid import resolutions_up_to
from msggan_jax.planning import flops, instructions
from msggan_jax.runtime import processes, sharding

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compilation:
  """A compiled step, or the failure to compile it; bytes are per device.

  Attributes:
    fits: Whether the compiler found room for it; on hosts it always does.
    compile_secs: Time of the compilation.
    memory_bytes: Memory needed: on TPUs the peak and the waiting batches,
      elsewhere the sum of parts.
    products: Of the step on all devices.
    parts_bytes: Memory by part; TPUs reuse the space of some temporaries.
    xla_flops: XLA's count per device, every loop's body once.
    bytes_accessed: XLA's count of memory traffic per device.
    collectives: Bytes that a device contributes, by kind.
    works: Work of every instruction, with padding; empty except on TPUs.
  """

  fits: bool
  compile_secs: float
  memory_bytes: int
  products: flops.Products
  parts_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
  xla_flops: float = 0.0
  bytes_accessed: float = 0.0
  collectives: dict[str, int] = dataclasses.field(default_factory=dict)
  works: list[instructions.Work] = dataclasses.field(default_factory=list)


def compile_step(run: Program) -> Compilation:
  """Compile the step for the program's devices.

  Raises:
    RuntimeError: If the compiler fails for another reason than memory.
  """
  arguments = run.abstract_state, run.abstract_batch
  products = flops.count_products(run.plain_step, *arguments)
  began = time.monotonic()
  try:
    compiled = run.step.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    needed = parse_exhausted(str(error))
    if needed is None:
      raise
    return Compilation(False, time.monotonic() - began, needed, products)
  secs = time.monotonic() - began
  memory = compiled.memory_analysis()
  parts = {
    "arguments": memory.argument_size_in_bytes,
    "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  text = compiled.as_text()
  needed, works = sum(parts.values()), []
  if run.mesh.devices.flat[0].platform == "tpu":
    needed = memory.peak_memory_in_bytes
    works = instructions.works(text)
  # One batch is among the arguments; the others wait beside it.
  batch = sum(
    math.prod(x.shape) * x.dtype.itemsize for x in arguments[1].values()
  )
  parts["waiting batches"] = (program.RUN_AHEAD - 1) * batch // run.mesh.size
  needed += parts["waiting batches"]
  cost = compiled.cost_analysis() or {}
  return Compilation(
    True,
    secs,
    needed,
    products,
    parts_bytes=parts,
    xla_flops=cost.get("flops", 0.0),
    bytes_accessed=cost.get("bytes accessed", 0.0),
    collectives=instructions.collective_bytes(text),
    works=works,
  )


def fits(config: ConfigDict, devices: list, limit_bytes: int) -> bool:
  """Compile a configuration's step; return whether it fits in memory.

  Args:
    config: The configuration, without "auto".
    devices: The step's devices, which need not exist.
    limit_bytes: Memory of one device.
  """
  run = program.make_program(config, sharding.make_mesh(devices))
  made = compile_step(run)
  return made.fits and made.memory_bytes <= limit_bytes


def with_remat(config: ConfigDict, devices: list, limit_bytes: int):
  """Replace remat_from "auto" by the fewest blocks that fit, starting at 0.

  Each attempt compiles the step, in all processes; the first one's memory
  decides, so that all compile the same step.

  Args:
    config: The configuration.
    devices: The step's devices.
    limit_bytes: Memory of one device.

  Returns:
    A copy of the configuration; the same object if remat_from is a number.

  Raises:
    ValueError: If the step does not fit even with all blocks.
  """
  if config.remat_from != "auto":
    return config
  config = config.copy_and_resolve_references()
  for remat_from in (0, *reversed(resolutions_up_to(config.resolution))):
    with config.ignore_type():
      config.remat_from = remat_from
    if processes.from_first(fits(config, devices, limit_bytes)):
      return config
  raise ValueError(
    f"config.remat_from auto: a batch of {config.batch_size // len(devices)} "
    "does not fit a device with any; choose config.micro_batch_size or less"
  )


def parse_exhausted(message: str) -> int | None:
  """Return the bytes that a compiler's error asks for; None: another error."""
  if "RESOURCE_EXHAUSTED" not in message:
    return None
  match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT]?)", message)
  if not match:
    return 0
  return round(float(match[1]) * _UNITS[match[2]])
