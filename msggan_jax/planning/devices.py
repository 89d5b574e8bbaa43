"""TPU slices and GPUs for the compiler, without access to one."""

import importlib.util
import os
import re
from typing import Any, NamedTuple

from msggan_jax.runtime import errors

GIB = 2**30
# The share of a GPU's memory that JAX takes; the second is the older name.
_GPU_MEMORY_SHARE = (
  "XLA_CLIENT_MEM_FRACTION",
  "XLA_PYTHON_CLIENT_MEM_FRACTION",
)


class Chip(NamedTuple):
  """Peak figures of a chip, for estimates; 0: unknown."""

  kind: str
  hbm_bytes: int
  flops_per_sec: float  # of matrix products, of bfloat16 on accelerators
  hbm_bytes_per_sec: float = 0.0
  ici_bytes_per_sec: float = 0.0  # of all links to its neighbors
  # Times of bfloat16 products that one of float32 takes, by the precision that
  # a program states.
  default_passes: float = 1
  highest_passes: float = 6

  def passes(self, item_bytes: int, precision: str) -> float:
    """Return the times of bfloat16 products that products of items take."""
    if item_bytes <= 2:
      return 1
    if precision == "default":
      return self.default_passes
    return self.highest_passes


CHIPS = {
  "v4": Chip("TPU v4", 32 * GIB, 275e12, 1.2e12, 300e9),
  "v5e": Chip("TPU v5e", 16 * GIB, 197e12, 0.82e12, 200e9),
  "v5p": Chip("TPU v5p", 95 * GIB, 459e12, 2.77e12, 600e9),
  "v6e": Chip("TPU v6e", 32 * GIB, 918e12, 1.64e12, 448e9),
}
# Two cores of these chips form one device, the default.
_MEGACORE = ("v4", "v5p")
_EXAMPLES = "v5e:2x4, v5e:16x16, v4:2x2x2, v5p:2x2x1, v6e:2x4"

# XLA's description of a GPU, of its xla/backends/gpu/target_config/specs/.
_AMPERE = """
  shared_memory_per_core: 167936 core_count: 108 fpus_per_core: 64
  l2_cache_size: 41943040 clock_rate_ghz: 1.41
  shared_memory_per_block_optin: 166912 cuda_compute_capability { major: 8 }
"""
_HOPPER = """
  shared_memory_per_core: 233472 core_count: 132 fpus_per_core: 128
  l2_cache_size: 52428800 clock_rate_ghz: 1.98
  shared_memory_per_block_optin: 232448 cuda_compute_capability {
  major: 9 feature_extension: ACCELERATED_FEATURES }
"""
_BLACKWELL = """
  shared_memory_per_core: 233472 core_count: 148 fpus_per_core: 128
  l2_cache_size: 132644864 clock_rate_ghz: 1.965
  shared_memory_per_block_optin: 232448 cuda_compute_capability {
  major: 10 feature_extension: ACCELERATED_FEATURES }
"""
_ALL_GPUS = """
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
"""
# Multiplications of bfloat16 in a clock of a core's four tensor cores, half as
# many of TF32, and their clock's ratio to the core's: of XLA's
# xla/stream_executor/cuda/cuda_core_info_table.cc. Bytes/s of a ring inside a
# host: 16 channels, their bytes/s and a discount, of
# xla/service/gpu/model/gpu_collective_performance_model.cc.
_RATES = {
  _AMPERE: (1024, 1.0, 16 * 20e9 * 0.92),
  _HOPPER: (2048, 0.924, 16 * 20e9 * 0.92),
  _BLACKWELL: (4096, 0.934, 16 * 40e9 * 0.92),
}
# Name, bytes, bytes/s, architecture.
GPUS = {
  "a100": ("NVIDIA A100-SXM4-80GB", 85100068864, 2039040000000, _AMPERE),
  "a100_40": ("NVIDIA A100-SXM4-40GB", 42331013120, 1555200000000, _AMPERE),
  "h100": ("NVIDIA H100 80GB HBM3", 84942979072, 3352320000000, _HOPPER),
  "h200": ("NVIDIA H200 141GB HBM3e", 151397597184, 4800000000000, _HOPPER),
  "b200": ("NVIDIA B200", 191514411008, 7672320000000, _BLACKWELL),
}
# The most scratch memory that XLA gives cuDNN, whose algorithms it chooses on
# the device (xla/service/gpu/autotuning/conv_algorithm_picker.cc).
CUDNN_WORKSPACE = 4 * GIB


def has_tpu_compiler() -> bool:
  """Return whether the TPU compiler is installed."""
  library = os.environ.get("TPU_LIBRARY_PATH")
  return bool(library or importlib.util.find_spec("libtpu"))


def has_gpu_compiler() -> bool:
  """Return whether JAX's CUDA plugin, ptxas and libdevice are installed."""
  plugin = any(
    importlib.util.find_spec(f"jax_cuda{version}_plugin")
    for version in (12, 13)
  )
  return plugin and bool(importlib.util.find_spec("nvidia"))


def describe(name: str) -> tuple[list, Chip]:
  """Return the devices of a slice such as "v5e:16x16", and their chip.

  Or of the GPUs of a host, such as "h100:8" or "h100". Call it before the first
  use of JAX: environment variables tell the compiler that no device is
  attached. ValueError if the name is unknown or the compiler is not installed.
  """
  kind, _, shape = name.partition(":")
  if kind in GPUS and re.fullmatch(r"([1-9]\d*)?", shape):
    return _describe_gpus(kind, int(shape or 1))
  if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
    raise ValueError(
      f"there is no topology {name!r}; write one such as {_EXAMPLES}, or of "
      f"GPUs {', '.join(GPUS)}, with their number as in h100:8"
    )
  if not has_tpu_compiler():
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
  megacore = {"chip_config_name": "megacore"} if kind in _MEGACORE else {}
  return _topology("tpu", name, **megacore), CHIPS[kind]


def gpu_chip(kind: str) -> Chip:
  """Return the figures of a kind of `GPUS`."""
  name, size, bandwidth, spec = GPUS[kind]

  def fact(field: str) -> float:
    return float(re.search(rf"{field}: ([\d.]+)", spec)[1])

  clock = 1e9 * fact("clock_rate_ghz") * fact("core_count")
  per_clock, ratio, ring = _RATES[spec]
  flops = 2 * per_clock * ratio * clock
  given = (os.environ.get(name) for name in _GPU_MEMORY_SHARE)
  share = float(next(filter(None, given), 0.75))
  return Chip(
    name,
    int(share * size),
    flops,
    bandwidth,
    ring,
    default_passes=2,  # as TF32
    highest_passes=flops / (2 * fact("fpus_per_core") * clock),
  )


def _describe_gpus(kind: str, count: int) -> tuple[list, Chip]:
  if not has_gpu_compiler():
    raise ValueError(
      "compiling for GPUs needs JAX's CUDA plugin, ptxas and libdevice: "
      "pip install 'msggan-jax[plan-gpu]'"
    )
  # Also skips the plugin's search for a driver and CUDA's libraries.
  os.environ["JAX_PLATFORMS"] = "cpu"
  name, size, bandwidth, spec = GPUS[kind]
  target = (
    f"gpu_device_info {{ {_ALL_GPUS} {spec} device_memory_size: {size} "
    f"memory_bandwidth: {bandwidth} }} platform_name: 'CUDA' "
    "dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 } "
    f"device_description_str: '{name}'"
  )
  # Slices, hosts, GPUs of a host.
  shape = {"topology": f"1x1x{count}", "target_config": target}
  return _topology("cuda", kind, **shape), gpu_chip(kind)


def _topology(platform: str, name: str, **options: Any) -> list:
  from jax.experimental import topologies

  try:
    topology = topologies.get_topology_desc(
      platform=platform, topology_name=name, **options
    )
  except Exception as error:  # the compilers raise many types
    compiler = {"tpu": "libtpu", "cuda": "JAX's CUDA plugin"}[platform]
    raise ValueError(
      f"{compiler} refuses topology {name!r}: {errors.first_line(error)}"
    ) from error
  return topology.devices
