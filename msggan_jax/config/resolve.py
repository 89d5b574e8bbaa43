"""Settle a configuration: every "auto" gets its value, once."""

import math
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from msggan_jax import data
from msggan_jax.algorithm import growth
from msggan_jax.config import checks, few_images, saved
from msggan_jax.config.fields import AUTO, FIELDS
from msggan_jax.data import prepared_set
from msggan_jax.models.pyramid import resolutions_up_to
from msggan_jax.models.stddev import examples_together
from msggan_jax.runtime import processes
from msggan_jax.runtime.errors import counted


class DoesNotFit(ValueError):
  """No recomputation makes a step fit a device."""


def resolve(
  config: ConfigDict,
  num_devices: int,
  *,
  file_batch_size: Any = None,
  file_total_kimg: float | None = None,
  for_few_images: bool = False,
  given: Collection[str] = (),
  workdir: Path | None = None,
  fits: Callable[[ConfigDict], bool] | None = None,
) -> FrozenConfigDict:
  """Settle "auto" values and the number of classes; check, and freeze.

  Prints each value and why. A run keeps its batch and its values for few images
  when it resumes on other devices, because its length, its moving average and
  its data order depend on them. All processes call it and get the same.

  Args:
    config: As the file and the command line have it.
    num_devices: Devices of all processes.
    file_batch_size: The file's own.
    file_total_kimg: The file's own; by default the config's.
    for_few_images: The file has augment "auto", whatever the command line has.
    given: Fields of the command line, which keep their values.
    workdir: May hold a run to resume.
    fits: Compiles a configuration's step; returns whether it fits a device.

  Raises:
    ValueError: If the configuration is impossible, or if the workdir holds a
      run of another.
  """
  settled = ConfigDict(config).copy_and_resolve_references()
  # The table of fields has no "auto" for it.
  skipped = "augment" if settled.get("augment") == AUTO else ""
  checks.check_fields(settled, [name for name in FIELDS if name != skipped])
  with settled.ignore_type():  # a number takes the place of a name
    if settled.batch_size == AUTO:
      given = {*given} - {"batch_size"}
      _settle_batch(settled, num_devices, file_batch_size, workdir)
    if for_few_images or settled.augment == AUTO:
      _settle_few_images(settled, num_devices, given, workdir, file_total_kimg)
    if not settled.num_classes and "num_classes" not in given:
      _settle_classes(settled, workdir)
    _settle_range(settled)
    checks.validate(settled, num_devices)
    if workdir is not None:
      saved.check_config(settled, workdir)
    if settled.remat_from == AUTO:
      _settle_remat(settled, num_devices, fits)
  return FrozenConfigDict(settled)


def _unit(config: ConfigDict, num_devices: int) -> int:
  """Return the divisor of every batch size that the devices can share."""
  group, micro = examples_together(config), config.micro_batch_size
  return num_devices * math.lcm(max(group, 1), max(micro, 1))


def _settle_batch(
  config: ConfigDict, num_devices: int, wanted: Any, workdir: Path | None
) -> None:
  field = FIELDS["batch_size"]
  if wanted == AUTO or not field.accepts(wanted):
    raise ValueError(
      "config.batch_size auto needs the number of the configuration's file, "
      f"which has {wanted!r}; choose {field.expected}"
    )

  def of_run() -> tuple[int, str]:
    if not saved.exists(workdir):
      return 0, ""
    there = saved.load_config(workdir)
    size = there.get("batch_size")
    is_size = size != AUTO and field.accepts(size)
    return size if is_size else 0, there.get("grow_batch_sizes", "")

  size, sizes = processes.decided_by_first(of_run)
  why = f", as the run in {workdir} has it"
  if not size:
    unit = _unit(config, num_devices)
    size = math.ceil(wanted / unit) * unit
    sizes = growth.round_up_batches(config, unit)
    why = f" (the config's {wanted} does not divide)"
    if size == wanted:
      why = ", as the config has it"
  config.batch_size, config.grow_batch_sizes = size, sizes
  _say(f"batch_size: {size} for {counted(num_devices, 'device')}{why}")
  if sizes:
    _say(f"grow_batch_sizes: {sizes}")


def _settle_classes(config: ConfigDict, workdir: Path | None) -> None:
  """Set `num_classes` to the number of the data set's labels, if it has any."""
  of = config.dataset
  is_set = of.name == "folder" and prepared_set.is_prepared(Path(of.path))
  if of.get("labels", "none") == "none" and not is_set:
    return

  def count() -> int:
    if saved.exists(workdir):
      return saved.load_config(workdir).get("num_classes", 0)
    return data.count_classes(config)

  if found := processes.decided_by_first(count):
    config.num_classes = found
    _say(f"num_classes: {found}, from the labels")


def _settle_range(config: ConfigDict) -> None:
  """Set `dataset.range` to that of a prepared set of values."""
  path = Path(config.dataset.path)
  is_set = config.dataset.name == "folder" and prepared_set.is_prepared(path)
  if is_set and not config.dataset.get("range", ""):
    if found := prepared_set.read_metadata(path).range:
      config.dataset.range = found
      _say(f"dataset.range: {found}, of the prepared set")


def _settle_few_images(
  config: ConfigDict,
  num_devices: int,
  given: Collection[str],
  workdir: Path | None,
  file_total_kimg: float | None,
) -> None:
  def count_new() -> int:
    if saved.exists(workdir):
      return 0
    return data.count_images(config)

  if count := processes.decided_by_first(count_new):
    unit = _unit(config, num_devices)
    chosen = few_images.choose(config, count, given, unit, file_total_kimg)
  else:
    theirs = saved.by_name(saved.load_config(workdir).to_dict())
    why = f"as the run in {workdir} has it"
    names = [
      name
      for name in few_images.CHOSEN
      if name in theirs and theirs[name] != config[name]
    ]
    chosen = {name: (theirs[name], why) for name in names}
  for name, (value, why) in chosen.items():
    if name in given and config[name] != AUTO:
      value, why = config[name], "given"
    config[name] = value
    _say(f"few images: {name} {value}: {why}")


def _settle_remat(
  config: ConfigDict, num_devices: int, fits: Callable | None
) -> None:
  """Choose the fewest blocks that fit; the first process's memory decides."""
  if fits is None:
    raise ValueError(
      "config.remat_from auto needs a compiler, and nothing is compiled here; "
      "choose a number"
    )
  for remat_from in (0, *reversed(resolutions_up_to(config.resolution))):
    config.remat_from = remat_from
    if processes.from_first(fits(config)):
      return
  raise DoesNotFit(
    f"config.remat_from auto: a batch of {config.batch_size // num_devices} "
    "does not fit a device with any; choose config.micro_batch_size or less"
  )


def _say(line: str) -> None:
  if processes.is_first():
    print(line, file=sys.stderr, flush=True)
