"""TPU slices for the compiler, without access to one."""

import importlib.util
import os
import re
from typing import NamedTuple

from msggan_jax.runtime import errors

GIB = 2**30


class Chip(NamedTuple):
  """Peak figures of a chip, for estimates; 0: unknown."""

  kind: str
  hbm_bytes: int
  flops_per_sec: float  # of matrix products, of bfloat16 on TPUs
  hbm_bytes_per_sec: float = 0.0
  ici_bytes_per_sec: float = 0.0  # of all links to its neighbors


CHIPS = {
  "v4": Chip("TPU v4", 32 * GIB, 275e12, 1.2e12, 300e9),
  "v5e": Chip("TPU v5e", 16 * GIB, 197e12, 0.82e12, 200e9),
  "v5p": Chip("TPU v5p", 95 * GIB, 459e12, 2.77e12, 600e9),
  "v6e": Chip("TPU v6e", 32 * GIB, 918e12, 1.64e12, 448e9),
}
# Two cores of these chips form one device, the default.
_MEGACORE = ("v4", "v5p")
_EXAMPLES = "v5e:2x4, v5e:16x16, v4:2x2x2, v5p:2x2x1, v6e:2x4"


def has_compiler() -> bool:
  """Return whether the TPU compiler is installed."""
  library = os.environ.get("TPU_LIBRARY_PATH")
  return bool(library or importlib.util.find_spec("libtpu"))


def describe(name: str) -> tuple[list, Chip]:
  """Return the devices of a slice such as "v5e:16x16", and their chip.

  Call it before the first use of JAX: environment variables tell the compiler
  that no TPU is attached. ValueError if the slice is unknown or the compiler is
  not installed.
  """
  match = re.fullmatch(r"(v\d+[a-z]?):(\d+(x\d+){1,2})", name)
  if not match or match[1] not in CHIPS:
    raise ValueError(
      f"there is no topology {name!r}; write one such as {_EXAMPLES}"
    )
  if not has_compiler():
    raise ValueError(
      "compiling for TPUs needs libtpu: pip install 'msggan-jax[tpu]'"
    )
  os.environ |= {
    "JAX_PLATFORMS": "cpu",
    # A ninth of the time to compile MSG-ProGAN at 32x32, for the same memory.
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "-1",
    # No TPU is attached, so several plans may compile at once.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  }
  os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
  from jax.experimental import topologies

  megacore = match[1] in _MEGACORE
  options = {"chip_config_name": "megacore"} if megacore else {}
  try:
    topology = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **options
    )
  except Exception as error:  # libtpu raises many types
    raise ValueError(
      f"libtpu refuses topology {name!r}: {errors.first_line(error)}"
    ) from error
  return topology.devices, CHIPS[match[1]]
