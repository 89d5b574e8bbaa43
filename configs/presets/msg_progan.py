"""Preset: MSG-ProGAN as the paper has it (sections 3 and 4)."""

import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).parents[1] / "default.py"


def get_config():
  """Return the paper's MSG-ProGAN; batch size and length are ours."""
  return runpy.run_path(str(_DEFAULT))["get_base_config"]()
