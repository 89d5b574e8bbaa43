"""Checks of configurations: our own before a run, those in files of others."""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.algorithm import augment, growth, schedules, train_state
from msggan_jax.algorithm.penalties import scale_weights
from msggan_jax.config.fields import FIELDS, LATER
from msggan_jax.config.saved import by_name
from msggan_jax.data import pictures
from msggan_jax.data.pixels import check_resolution
from msggan_jax.models import base_grid
from msggan_jax.models.pyramid import connected_scales
from msggan_jax.models.stddev import examples_together
from msggan_jax.runtime.errors import counted

_MOST_CHARACTERS = 80  # of a value in a message

# Model -> the values without which it does not exist.
_ONLY = {
  "stylegan": {
    "equalized": True,
    "spectral_norm": False,
    "normalize_latents": True,
    "output_activation": "linear",
  },
  "residual": {"equalized": True, "spectral_norm": False},
}
# The values with which networks grow: one scale, and layers of a level that do
# not depend on the number of levels.
_GROWING = {
  "model": ("progan", "stylegan"),
  "connected_scales": ("none",),
  "pyramid": ("rgb",),
}


def validate(config: ConfigDict, num_devices: int) -> None:
  """Raise ValueError, naming the field, if a configuration is impossible."""
  check_fields(config, FIELDS)
  _check_networks(config)
  pictures.parse_bands(config.bands, config.channels)
  schedules.check(config)
  augment.check(config)
  scales = connected_scales(config.resolution, config.connected_scales)
  scale_weights(config.penalty_scales, scales)
  train_state.check_frozen(config)
  growth.check(config)
  for resolution in growth.stages(config):
    _check_batch(growth.stage(config, resolution), num_devices)


def network_fields(fields: Mapping[str, Any]) -> ConfigDict:
  """Return the fields that shape the networks, and no others.

  Weights of others come with a configuration, which is not trusted: a field
  that is missing or impossible raises ValueError.
  """
  fields = LATER | fields
  names = [name for name, field in FIELDS.items() if field.shapes_networks]
  config = ConfigDict({name: fields[name] for name in names if name in fields})
  check_fields(config, names)
  _check_networks(config)
  return config


def check_fields(config: ConfigDict, names: Collection[str]) -> None:
  """Raise ValueError for a missing field, or an impossible value."""
  fields = config.to_dict()
  values = by_name(fields) | fields  # some file may have {} for a number
  missing = [name for name in names if name not in values]
  if missing:
    raise ValueError(f"the configuration lacks {', '.join(missing)}")
  for name in names:
    if not FIELDS[name].accepts(values[name]):
      raise ValueError(
        f"config.{name} is {repr(values[name])[:_MOST_CHARACTERS]}; choose "
        f"{FIELDS[name].expected}"
      )


def _check_networks(config: ConfigDict) -> None:
  for name, value in _ONLY.get(config.model, {}).items():
    if config[name] != value:
      raise ValueError(
        f"config.{name} is {config[name]!r}; config.model {config.model} has "
        f"only {value!r}, choose that or config.model progan"
      )
  check_resolution(config.resolution)
  base_grid.parse(config.base_grid)
  connected_scales(config.resolution, config.connected_scales)
  if first := config.grow_from:
    if first & (first - 1) or not 4 <= first <= config.resolution:
      raise ValueError(
        f"config.grow_from is {first}; choose a power of two from 4 to "
        f"config.resolution {config.resolution}, or 0"
      )
    for name, value in _GROWING.items():
      if config[name] not in value:
        raise ValueError(
          f"config.{name} is {config[name]!r}; networks that grow have only "
          f"{' or '.join(value)}: choose that, or config.grow_from 0"
        )


def _check_batch(config: ConfigDict, num_devices: int) -> None:
  group = examples_together(config)
  # Without a minibatch stddev the grouping does not matter.
  has_stddev = config.stddev_placement != "none"
  strided = has_stddev and config.stddev_grouping == "strided"
  if group and strided and num_devices > 1:
    raise ValueError(
      "config.stddev_grouping is strided, whose groups span the whole batch, "
      f"and there are {num_devices} devices; choose contiguous, or one device"
    )
  multiple = num_devices * max(group, 1)
  if config.batch_size % multiple:
    where = ""
    if config.grow_from:
      where = f", or config.grow_batch_sizes at {config.resolution} pixels,"
    raise ValueError(
      f"config.batch_size{where} is {config.batch_size}; with "
      f"{counted(num_devices, 'device')} and config.stddev_group {group} it "
      f"must be a multiple of {multiple}, such as --config.batch_size=auto "
      "chooses"
    )
  size = config.micro_batch_size
  device_batch_size = config.batch_size // num_devices
  if size in (0, device_batch_size):
    return
  if not group or strided:
    raise ValueError(
      f"config.micro_batch_size is {size}, but the minibatch stddev spans the "
      "whole batch; choose 0, or config.stddev_group above 0 with "
      "config.stddev_grouping contiguous"
    )
  if device_batch_size % size or size % group:
    raise ValueError(
      f"config.micro_batch_size is {size}; it must be a multiple of "
      f"config.stddev_group {group} that divides the {device_batch_size} "
      "examples of a device"
    )
