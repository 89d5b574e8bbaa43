"""Preset: MSG-StyleGAN as the official code trains it, with Adam."""

import pathlib
import runpy

_MSG_STYLEGAN = pathlib.Path(__file__).with_name("msg_stylegan.py")


def get_config():
  """Return the official code's MSG-StyleGAN."""
  config = runpy.run_path(str(_MSG_STYLEGAN))["get_config"]()
  config.optimizer = "adam"
  return config
