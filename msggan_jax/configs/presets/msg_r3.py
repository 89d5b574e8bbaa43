"""Preset: MSG-R3, R3GAN's loss and schedules on MSG-ProGAN's pyramid.

Huang et al., NeurIPS 2024. The networks are MSG-ProGAN's.
"""

from msggan_jax.config.fields import default_config


def get_config():
  """Return MSG-R3; burn-in and learning rates are ours."""
  config = default_config()
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
  return config
