"""The networks; `networks.py` builds them from a configuration."""

from collections.abc import Mapping
from typing import Any

NAMES = {  # of the choices of `config.model`
  "progan": "MSG-ProGAN",
  "stylegan": "MSG-StyleGAN",
  "residual": "MSG-ProGAN with residual blocks",
}


def name_of(config: Mapping[str, Any]) -> str:
  """Return the name of a configuration's networks."""
  name = NAMES.get(str(config.get("model")), "a model of another name")
  return name.removeprefix("MSG-") if config.get("grow_from") else name
