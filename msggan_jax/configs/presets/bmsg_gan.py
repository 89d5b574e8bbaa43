"""Preset: BMSG-GAN, the authors' MSG-ProGAN in PyTorch."""

import math

from msggan_jax.config.fields import default_config


def get_config():
  """Return BMSG-GAN; the batch size is ours (its default is 20).

  Another latent_size wants max_channels = latent_size and
  base_channels = 32 latent_size.
  """
  config = default_config()
  config.combine = "lin_cat_equal"
  config.stddev_group = 0
  config.stddev_placement = "last_block"
  config.linear_gain = math.sqrt(2.0)
  config.loss = "relativistic_hinge"
  config.penalty = "none"
  config.optimizer = "adam"
  config.ema_decay = 0.999
  return config
