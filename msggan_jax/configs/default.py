"""The paper's MSG-ProGAN, or another preset, without a data set.

Every field and its meaning: docs/configuration.md, written from the table in
`msggan_jax/config/fields.py`.
python -m msggan_jax.main --config=configs/default.py:msg_stylegan \
  --config.dataset.name=cifar10 --config.resolution=32
"""

import math

from msggan_jax.config.fields import default_config


def get_config(preset="msg_progan"):
  """Return a preset's configuration; the data set is missing.

  Raises:
    ValueError: If there is no preset of that name.
  """
  if preset not in PRESETS:
    raise ValueError(
      f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}"
    )
  config = default_config()
  PRESETS[preset](config)
  return config


def msg_progan(config):
  """Keep the defaults: MSG-ProGAN as the paper has it (sections 3 and 4)."""


def msg_stylegan(config):
  """Set MSG-StyleGAN as the paper has it (sections 3 and 4)."""
  config.model = "stylegan"
  config.combine = "cat_lin"
  config.loss = "logistic"
  # The paper's "1-sided GP" is R1 in the code; weight and form are the code's.
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "total"
  config.g_step_latents = "fresh"


def msg_stylegan_official(config):
  """Set MSG-StyleGAN as the official code trains it, with Adam."""
  msg_stylegan(config)
  config.optimizer = "adam"


def bmsg_gan(config):
  """Set BMSG-GAN, the authors' MSG-ProGAN in PyTorch.

  The batch size is ours (its default is 20). Another latent_size wants
  max_channels = latent_size and base_channels = 32 latent_size.
  """
  config.combine = "lin_cat_equal"
  config.stddev_group = 0
  config.stddev_placement = "last_block"
  config.linear_gain = math.sqrt(2.0)
  config.loss = "relativistic_hinge"
  config.penalty = "none"
  config.optimizer = "adam"
  config.ema_decay = 0.999


def msg_gan_v1(config):
  """Set msg-gan-v1, the first public version, with spectral norm.

  In its default size, 64x64 with 256 latents. Another latent_size wants
  max_channels = latent_size and base_channels = 32 latent_size.
  """
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


def msg_r3(config):
  """Set MSG-R3, R3GAN's loss and schedules on MSG-ProGAN's networks.

  Huang et al., NeurIPS 2024. Burn-in and learning rates are ours.
  """
  config.combine = "lin_cat"
  config.loss = "relativistic_pairing"
  config.penalty = "r1_r2"
  config.penalty_derivatives = "partial"  # the same for reals and fakes
  config.penalty_scales = "pixels"  # gamma in the unit of a single scale
  # R3GAN starts with 0.05 at 32x32, 2 at 64x64 and 150 at 256x256 and ends with
  # a tenth; (resolution / 64)^4 is within a factor of 2 of all three. Another
  # resolution moves gamma; setting gamma itself fixes it.
  for name in ("r1_gamma", "r2_gamma"):
    resolution = config.get_oneway_ref("resolution").to_float()
    del config[name]  # which holds a number, not a rule
    config[name] = (resolution / 64) ** 4
    config[f"{name}_end"] = config.get_oneway_ref(name) / 10
  config.optimizer = "adam"
  config.beta1 = 0.0
  config.beta2, config.beta2_end = 0.9, 0.99
  config.learning_rate, config.learning_rate_end = 0.002, 0.0005
  config.ema_kimg, config.ema_kimg_end = 0.0, 10.0
  config.burn_in_kimg = 200.0


def msg_residual(config):
  """Set MSG-ProGAN with R3GAN's residual blocks, without normalization.

  Neither pixel norm nor minibatch stddev. The loss is the one that these
  networks were compared with, see docs/results.md.
  """
  config.model = "residual"
  config.combine = "cat_lin"
  config.stddev_placement = "none"
  config.loss = "logistic"
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "partial"


def progan(config):
  """Set ProGAN, which grows (Karras et al. 2018).

  Blocks are MSG-ProGAN's. Stages, rates and batches are the authors' for one
  GPU; for eight they have 4:512,8:256,16:128,32:64,64:32. The length is theirs.
  """
  config.connected_scales = "none"
  config.grow_from = 4
  config.grow_batch_sizes = "4:128,32:64,64:32,128:16,256:8,512:4"
  config.grow_learning_rates = "1024:0.0015"
  config.learning_rate = 0.001
  config.input_activation = "leaky_relu"
  config.stddev_placement = "last_block"
  config.optimizer = "adam"
  config.g_step_latents = "fresh"
  config.total_kimg = 12000.0


def stylegan(config):
  """Set StyleGAN, which grows (Karras et al. 2019), as for eight GPUs."""
  msg_stylegan_official(config)
  config.connected_scales = "none"
  config.grow_from = 8
  config.grow_batch_sizes = "8:256,16:128,32:64,64:32"
  config.grow_learning_rates = "128:0.0015,256:0.002,512:0.003"
  config.learning_rate = 0.001
  config.stddev_placement = "last_block"
  config.style_mixing = 0.9
  config.total_kimg = 25000.0


def by_network(config, msg_progan, msg_stylegan, progan, stylegan):
  """Return the value for a configuration's networks."""
  if config.model == "stylegan":
    return stylegan if config.grow_from else msg_stylegan
  return progan if config.grow_from else msg_progan


PRESETS = {
  preset.__name__: preset
  for preset in (
    *(msg_progan, msg_stylegan, msg_stylegan_official, bmsg_gan, msg_gan_v1),
    *(msg_r3, msg_residual, progan, stylegan),
  )
}
