"""Preset: MSG-StyleGAN as the official code trains it, with Adam."""

from msggan_jax.configs.presets import msg_stylegan


def get_config():
  """Return the official code's MSG-StyleGAN."""
  config = msg_stylegan.get_config()
  config.optimizer = "adam"
  return config
