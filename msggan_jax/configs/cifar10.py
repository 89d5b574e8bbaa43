"""CIFAR-10, 50,000 images, 32x32; the paper's IS is 8.63 (Table 3)."""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on CIFAR-10; the batch size is ours."""
  config = default.get_config(preset)
  config.dataset.name = "cifar10"
  config.resolution = 32
  config.batch_size = 32
  config.total_kimg = 12000.0  # Table 3
  # Lengths of ProGAN's authors, whose networks are narrower, with a latent of
  # 128, and whose penalty draws norms to 750 instead of 1.
  if config.grow_from:
    config.grow_stable_kimg = config.grow_fade_kimg = 400.0
    config.total_kimg = 20000.0
  config.snapshot_kimg = 200.0
  config.eval_kimg = 500.0
  return config
