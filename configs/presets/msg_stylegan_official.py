"""Preset: MSG-StyleGAN as the official code trains it, with Adam."""

import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).parents[1] / "default.py"


def get_config():
  """Return the official code's MSG-StyleGAN."""
  config = runpy.run_path(str(_DEFAULT))["get_config"]("msg_stylegan")
  config.optimizer = "adam"
  return config
