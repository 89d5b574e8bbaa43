"""Preset: MSG-ProGAN as the paper has it (sections 3 and 4)."""

from msggan_jax.config.fields import default_config


def get_config():
  """Return the paper's MSG-ProGAN; batch size and length are ours."""
  return default_config()
