"""Describe a run without starting it: `main --dry_run`."""

import json
import math

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.config import checks
from msggan_jax.data import pictures
from msggan_jax.models import base_grid
from msggan_jax.models.pyramid import connected_scales
from msggan_jax.planning import estimate
from msggan_jax.runtime import sharding

_PNG_BYTES_PER_VALUE = 0.75  # of generated images, which compress badly


def describe(config: ConfigDict) -> list[str]:
  """Compile the step for this machine and describe the run in lines.

  Neither data nor workdir are read, and nothing is written.

  Args:
    config: The configuration.

  Raises:
    ValueError: If it is impossible.
  """
  checks.validate(config, jax.device_count())
  devices, chip = estimate.this_machine()
  run = program.make_program(config, sharding.make_mesh(devices))
  state = run.abstract_state
  state_bytes = sum(
    math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)
  )
  steps = math.ceil(1000 * config.total_kimg / config.batch_size)
  numbers = estimate.make_plan(config, devices, chip).numbers()
  # The newest, one being written, the best, and those of keep_kimg.
  checkpoints = config.keep + 1 + bool(config.eval_kimg)
  if config.keep_kimg:
    checkpoints += math.floor(config.total_kimg / config.keep_kimg)
  grids = number_of(config, config.sample_kimg) * grid_bytes(config)
  return [
    json.dumps(config.to_dict(), indent=2, sort_keys=True),
    "generator",
    parameter_table(state.g_params),
    "discriminator",
    parameter_table(state.d_params),
    f"steps          {steps:,} of {config.batch_size} images",
    *estimate.describe(numbers, config.total_kimg),
    f"disk           {checkpoints * state_bytes / 2**30:.3g} GiB for at most "
    f"{checkpoints} checkpoints of {state_bytes / 2**30:.3g} GiB, about "
    f"{grids / 2**30:.3g} GiB for grids",
  ]


def parameter_table(params: dict) -> str:
  """Return a table of a network's parameters: name, shape, type, size."""
  return parameter_overview.get_parameter_overview(params, include_stats=False)


def number_of(config: ConfigDict, every_kimg: float) -> int:
  """Return how often an action is due in a run, start and end included."""
  if not every_kimg:
    return 2
  return 1 + math.ceil(config.total_kimg / every_kimg)


def grid_bytes(config: ConfigDict) -> float:
  """Estimate the bytes of one set of sample grids."""
  columns = pictures.grid_columns(config.resolution)
  scales = connected_scales(config)
  grids = sum((columns * r) ** 2 for r in scales)
  sheet = columns * config.resolution * len(scales) * config.resolution
  height, width = base_grid.size_of(config)
  area = height * width / config.resolution**2  # of a square
  return (grids + sheet) * area * config.channels * _PNG_BYTES_PER_VALUE
