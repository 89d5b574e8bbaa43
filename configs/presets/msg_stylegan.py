"""Preset: MSG-StyleGAN as the paper has it (sections 3 and 4)."""

import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).parents[1] / "default.py"


def get_config():
  """Return the paper's MSG-StyleGAN."""
  config = runpy.run_path(str(_DEFAULT))["get_base_config"]()
  config.model = "stylegan"
  config.combine = "cat_lin"
  config.loss = "logistic"
  # The paper's "1-sided GP" is R1 in the code; weight and form are the code's.
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "total"
  config.g_step_latents = "fresh"
  return config
