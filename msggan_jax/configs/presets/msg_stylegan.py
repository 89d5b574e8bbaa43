"""Preset: MSG-StyleGAN as the paper has it (sections 3 and 4)."""

from msggan_jax.config.fields import default_config


def get_config():
  """Return the paper's MSG-StyleGAN."""
  config = default_config()
  config.model = "stylegan"
  config.combine = "cat_lin"
  config.loss = "logistic"
  # The paper's "1-sided GP" is R1 in the code; weight and form are the code's.
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "total"
  config.g_step_latents = "fresh"
  return config
