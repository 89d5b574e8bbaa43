"""Preset: MSG-ProGAN with R3GAN's residual blocks, without normalization.

Neither pixel norm nor minibatch stddev. The loss is the one that these networks
were compared with, see docs/results.md.
"""

from msggan_jax.config.fields import default_config


def get_config():
  """Return the residual networks with logistic loss and R1."""
  config = default_config()
  config.model = "residual"
  config.combine = "cat_lin"
  config.stddev_placement = "none"
  config.loss = "logistic"
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "partial"
  return config
