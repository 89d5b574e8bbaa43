"""The part of a configuration that shapes the networks, and its check.

Configurations come with weights of others. Here nothing of them is believed:
a field has its type and is one of the choices or within bounds, so that no
network of a size without end is made.
"""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.algorithm import config_fields
from msggan_jax.models.pyramid import connected_scales

# The smallest and the largest number that is believed.
_COUNTS = {
  "resolution": (4, 2**14),
  "channels": (1, 2**10),
  "num_classes": (0, 2**20),
  "latent_size": (1, 2**16),
  "w_size": (1, 2**16),
  "mapping_size": (1, 2**16),
  "mapping_layers": (1, 2**7),
  "base_channels": (1, 2**24),
  "max_channels": (1, 2**16),
  "stddev_group": (0, 2**20),
}
_CHOICES = (
  "model",
  "combine",
  "stddev_placement",
  "stddev_grouping",
  "output_activation",
  "precision",
)
_SWITCHES = (
  "stddev_spatial",
  "equalized",
  "pixel_norm",
  "spectral_norm",
  "normalize_latents",
)
_OTHERS = ("connected_scales", "linear_gain", "remat_from")
FIELDS = (*_COUNTS, *_CHOICES, *_SWITCHES, *_OTHERS)


def check(fields: Mapping[str, Any]) -> ConfigDict:
  """Return the fields that shape the networks, and no others.

  Args:
    fields: A configuration, as JSON gives it.

  Raises:
    ValueError: In one sentence, if a field is missing or impossible.
  """
  missing = [name for name in FIELDS if name not in fields]
  if missing:
    raise ValueError(f"the configuration lacks {', '.join(missing)}")
  config = ConfigDict({name: fields[name] for name in FIELDS})
  for name, (smallest, largest) in _COUNTS.items():
    if not (_is_count(fields[name]) and smallest <= fields[name] <= largest):
      _refuse(name, fields, f"a number from {smallest} to {largest}")
  for name in _CHOICES:
    choices = config_fields.CHOICES[name]
    if not isinstance(fields[name], str) or fields[name] not in choices:
      _refuse(name, fields, f"one of {', '.join(choices)}")
  for name in _SWITCHES:
    if not isinstance(fields[name], bool):
      _refuse(name, fields, "true or false")
  gain = fields["linear_gain"]
  if not (_is_count(gain) or isinstance(gain, float)) or not _is_finite(gain):
    _refuse("linear_gain", fields, "a number")
  if fields["remat_from"] != "auto" and not _is_count(fields["remat_from"]):
    _refuse("remat_from", fields, "a resolution, 0 or auto")
  scales = fields["connected_scales"]
  listed = scales if isinstance(scales, list | tuple) else [scales]
  if not all(isinstance(scale, str) or _is_count(scale) for scale in listed):
    _refuse("connected_scales", fields, "a name or a list of resolutions")
  if fields["model"] == "stylegan":
    for name, only in config_fields.STYLEGAN_ONLY_WITH.items():
      if fields[name] != only:
        _refuse(name, fields, f"{only!r}, as model stylegan has it")
  config_fields.check_resolution(config.resolution)
  connected_scales(config)
  return config


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(number: float) -> bool:
  try:
    return math.isfinite(number)
  except OverflowError:  # an integer beyond all fractions
    return False


def _refuse(name: str, fields: Mapping[str, Any], expected: str) -> None:
  shown = repr(fields[name])[:80]
  raise ValueError(f"config.{name} is {shown}; it must be {expected}")
