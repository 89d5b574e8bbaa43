"""Preset: msg-gan-v1, the first public version, with spectral norm."""

from msggan_jax.config.fields import default_config


def get_config():
  """Return msg-gan-v1 in its default size, 64x64 with 256 latents.

  Another latent_size wants max_channels = latent_size and
  base_channels = 32 latent_size.
  """
  config = default_config()
  config.resolution = 64
  config.mirror = False
  config.latent_size = 256
  config.base_channels = 32 * 256
  config.max_channels = 256
  config.combine = "lin_cat_equal"
  config.stddev_group = 0
  config.stddev_placement = "last_block"
  config.stddev_spatial = True
  config.equalized = False
  config.pixel_norm = False
  config.spectral_norm = True
  config.normalize_latents = False
  config.output_activation = "tanh"
  config.loss = "relativistic_hinge"
  config.penalty = "none"
  config.optimizer = "adam"
  config.learning_rate = 0.0003
  config.ema_kimg = 0.0  # no moving average
  config.g_step_latents = "fresh"
  config.eval_kimg = 500.0
  return config
