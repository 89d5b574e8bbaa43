"""The batch size "auto": a configuration's own, or the least possible above."""

import math
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS
from msggan_jax.models.stddev import examples_together
from msggan_jax.runtime import processes

AUTO = "auto"
_is_number = FIELDS["batch_size"].accepts


def with_batch_size(
  config: ConfigDict,
  from_file: Any,
  num_devices: int,
  workdir: Path | None = None,
) -> ConfigDict:
  """Replace batch_size "auto" by a number, and print which and why.

  A run keeps its batch when it resumes on other devices, because its length,
  its moving average and its data order depend on it.

  Args:
    config: The configuration.
    from_file: The batch size in the configuration's file.
    num_devices: Devices of all processes.
    workdir: The run's folder, which may hold a run to resume.

  Returns:
    A copy of the configuration, the same in all processes; the same object if
    batch_size is not "auto".

  Raises:
    ValueError: If the file's batch size is no number.
  """
  if config.batch_size != AUTO:
    return config
  if not _is_number(from_file):
    raise ValueError(
      "config.batch_size auto needs the number of the configuration's file, "
      f"which has {from_file!r}; choose {FIELDS['batch_size'].expected()}"
    )
  config = config.copy_and_resolve_references()
  # One process decides: another may see other files on a shared disk.
  first = processes.is_first()
  resumed = processes.from_first(_batch_of(workdir) if first else 0)
  size = resumed or least_possible(config, from_file, num_devices)
  with config.ignore_type():
    config.batch_size = size
  if first:
    why = f" (the config's {from_file} does not divide)"
    if resumed:
      why = f", as the run in {workdir} has it"
    elif size == from_file:
      why = ", as the config has it"
    devices = "1 device" if num_devices == 1 else f"{num_devices} devices"
    line = f"batch_size: {size} for {devices}{why}"
    print(line, file=sys.stderr, flush=True)
  return config


def least_possible(config: ConfigDict, wanted: int, num_devices: int) -> int:
  """Return the least batch size that devices can share, from `wanted` up.

  Args:
    config: Its `micro_batch_size` and the examples that share a minibatch
      stddev divide a device's batch.
    wanted: The batch size to reach.
    num_devices: Devices of all processes.
  """
  group, micro = examples_together(config), config.micro_batch_size
  unit = num_devices * math.lcm(max(group, 1), max(micro, 1))
  return math.ceil(wanted / unit) * unit


def _batch_of(workdir: Path | None) -> int:
  """Return the batch size of a workdir's run, 0 if there is none."""
  if workdir is None or not (workdir / "config.json").is_file():
    return 0
  size = saved.load_config(workdir).get("batch_size")
  return size if _is_number(size) else 0
