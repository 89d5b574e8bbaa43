"""A compiled training step: memory, work, collectives."""

import math
import re
import time
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.algorithm.program import Program
from msggan_jax.planning import instructions
from msggan_jax.runtime import machine, sharding

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Compilation(NamedTuple):
  """A compiled step, or the failure to compile it; bytes are per device."""

  fits: bool  # the compiler found room for it; on hosts always
  compile_secs: float
  memory_bytes: int  # on TPUs the peak and the waiting batches, else all parts
  parts_bytes: dict[str, int]  # TPUs reuse the space of some temporaries
  xla_flops: float  # every loop's body once
  bytes_accessed: float  # by XLA's count
  collectives: dict[str, int]  # bytes that a device contributes, by kind
  works: list[instructions.Work]  # empty except on TPUs


def compile_step(run: Program) -> Compilation:
  """Compile the step for the program's devices.

  Raises:
    RuntimeError: If the compiler fails for another reason than memory.
  """
  arguments = run.abstract_state, run.abstract_batch
  began = time.monotonic()
  try:
    compiled = run.step.lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    needed = parse_exhausted(str(error))
    if needed is None:
      raise
    secs = time.monotonic() - began
    return Compilation(False, secs, needed, {}, 0.0, 0.0, {}, [])
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
    fits=True,
    compile_secs=secs,
    memory_bytes=needed,
    parts_bytes=parts,
    xla_flops=cost.get("flops", 0.0),
    bytes_accessed=cost.get("bytes accessed", 0.0),
    collectives=instructions.collective_bytes(text),
    works=works,
  )


def fits(
  config: ConfigDict,
  devices: list | None = None,
  limit_bytes: int | None = None,
) -> bool:
  """Compile a configuration's step; return whether it fits in memory.

  Args:
    config: The configuration, without "auto".
    devices: The step's devices, which need not exist; None: all there are.
    limit_bytes: Memory of one device; None: of those there are.
  """
  mesh = sharding.make_mesh(jax.devices() if devices is None else devices)
  made = compile_step(program.make_program(config, mesh))
  limit = machine.limit_bytes() if limit_bytes is None else limit_bytes
  return made.fits and made.memory_bytes <= limit


def parse_exhausted(message: str) -> int | None:
  """Return the bytes that a compiler's error asks for; None: another error."""
  if "RESOURCE_EXHAUSTED" not in message:
    return None
  match = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT]?)", message)
  if not match:
    return 0
  return round(float(match[1]) * _UNITS[match[2]])
