"""GPUs, from their data sheets: an analytical estimate without a compiler.

Nothing is compiled for them. FLOPs are the model's; bytes are those of every
convolution's operands and result, once each, as if everything else were fused.
Both are floors for this algorithm, so the speed is an upper bound.
"""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.planning import flops, levels
from msggan_jax.runtime import sharding


@dataclasses.dataclass(frozen=True)
class Gpu:
  """Figures of NVIDIA's documents; dense products, without sparsity.

  Attributes:
    kind: Its name.
    hbm_bytes: Memory.
    bfloat16_flops_per_sec: Peak of products of bfloat16, summed in float32.
    float32_flops_per_sec: Peak of true float32, not TF32.
    hbm_bytes_per_sec: Peak memory bandwidth.
    source: The document.
  """

  kind: str
  hbm_bytes: int
  bfloat16_flops_per_sec: float
  float32_flops_per_sec: float
  hbm_bytes_per_sec: float
  source: str


GPUS = {
  "h100": Gpu(
    kind="H100 SXM 80 GB",
    hbm_bytes=80 * 10**9,
    bfloat16_flops_per_sec=989e12,  # 1,979 with sparsity
    float32_flops_per_sec=67e12,
    hbm_bytes_per_sec=3.35e12,
    source="NVIDIA H100 Tensor Core GPU, data sheet",
  ),
  "a100": Gpu(
    kind="A100 SXM 80 GB",
    hbm_bytes=80 * 10**9,
    bfloat16_flops_per_sec=312e12,
    float32_flops_per_sec=19.5e12,
    hbm_bytes_per_sec=2.039e12,
    source="NVIDIA A100 Tensor Core GPU, data sheet",
  ),
  "v100": Gpu(
    kind="V100 SXM2 32 GB",
    hbm_bytes=32 * 10**9,
    # Its matrix units know float16 only, so bfloat16 runs as float32: 5,120
    # cores, two operations each, at 1.53 GHz.
    bfloat16_flops_per_sec=15.7e12,
    float32_flops_per_sec=15.7e12,
    hbm_bytes_per_sec=0.9e12,
    source="NVIDIA Tesla V100, data sheet, from memory",
  ),
  "rtx4090": Gpu(
    kind="RTX 4090 24 GB",
    hbm_bytes=24 * 10**9,
    bfloat16_flops_per_sec=165.2e12,  # sums in float32
    float32_flops_per_sec=82.6e12,
    hbm_bytes_per_sec=1.008e12,
    source="NVIDIA Ada GPU Architecture, white paper",
  ),
}


def estimate(config: ConfigDict, name: str) -> dict[str, Any]:
  """Return the numbers of a plan for one GPU.

  Args:
    config: The configuration; its batch is that of the GPU.
    name: A key of `GPUS`.

  Raises:
    ValueError: If the configuration is impossible.
  """
  gpu = GPUS[name]
  checks.validate(config, 1)
  if config.remat_from == "auto":
    raise ValueError(
      "config.remat_from auto needs a compiler; choose a number for --gpu"
    )
  run = program.make_program(config, sharding.make_mesh(jax.devices()[:1]))
  costs = levels.floor_of(
    flops.count_products(
      run.plain_step, run.abstract_state, run.abstract_batch
    ),
    devices=1,
    flops_per_sec=lambda item_bytes: (
      gpu.float32_flops_per_sec
      if item_bytes > 2
      else gpu.bfloat16_flops_per_sec
    ),
    hbm_bytes_per_sec=gpu.hbm_bytes_per_sec,
  )
  secs = sum(cost.secs for cost in costs)
  return {
    "analytical": True,
    "devices": 1,
    "device_kind": gpu.kind,
    "source": gpu.source,
    "batch_size": config.batch_size,
    "device_batch_size": config.batch_size,
    "precision": config.precision,
    "hbm_capacity_bytes": gpu.hbm_bytes,
    "model_flops_per_image": sum(c.flops for c in costs) / config.batch_size,
    "bytes_accessed": sum(cost.bytes_moved for cost in costs),
    "levels": [dataclasses.asdict(cost) for cost in costs],
    "step_secs_estimate": {
      "compute": sum(cost.compute_secs for cost in costs),
      "memory": sum(cost.memory_secs for cost in costs),
      "step": secs,
    },
    "images_per_sec_estimate": config.batch_size / secs,
  }


def describe(numbers: dict[str, Any]) -> list[str]:
  """Return the numbers as lines for people."""
  secs = numbers["step_secs_estimate"]
  size = numbers["device_batch_size"]
  moved = numbers["bytes_accessed"] / size / 1e9
  capacity = numbers["hbm_capacity_bytes"] / 1e9
  speed = numbers["images_per_sec_estimate"]
  return [
    f"device         {numbers['device_kind']}: dense products; source: "
    f"{numbers['source']}",
    f"batch          {size}; precision {numbers['precision']}",
    f"FLOPs          {numbers['model_flops_per_image'] / 1e9:.4g} G an image "
    "of the model",
    f"bytes moved    {moved:.4g} GB an image: "
    "operands and result of every product once, the rest fused",
    f"memory         not estimated, of {capacity:.0f} GB: a compiler knows",
    f"estimate       at most {speed:.4g} images/s: analytical, nothing was "
    f"compiled; {secs['compute']:.3g} s of products at the full peak, "
    f"{secs['memory']:.3g} s of memory",
  ]
