"""A run's config.json; read without JAX."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.models import base_grid


def load_config(workdir: str | Path) -> ConfigDict:
  """Read a workdir's `config.json`.

  Raises:
    FileNotFoundError: If it does not exist.
    ValueError: If it is damaged.
  """
  path = Path(workdir) / "config.json"
  if not path.is_file():
    problem = "it has no config.json"
    if not Path(workdir).exists():
      problem = "it does not exist"
    raise FileNotFoundError(f"{workdir} is not the workdir of a run: {problem}")
  try:
    config = ConfigDict(json.loads(path.read_text()))
    if "base_grid" not in config:  # older runs lack it
      config.base_grid = base_grid.SQUARE
    return config
  except (ValueError, TypeError, AttributeError, RecursionError) as error:
    raise ValueError(f"{path} holds no configuration") from error


def by_name(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Return nested fields by their dotted names, such as dataset.path."""
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat |= by_name(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat
