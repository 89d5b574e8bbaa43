"""Oxford Flowers-102, all 8,189 images, 256x256.

The paper's FID (Table 1): MSG-ProGAN 28.27, MSG-StyleGAN 19.60.
"""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on Oxford Flowers; MSG-ProGAN's batch size is ours."""
  config = default.get_config(preset)
  config.dataset.name = "oxford_flowers102"
  config.dataset.split = "train+validation+test"
  config.resolution = 256
  config.batch_size = 32
  lengths = 1700.0, 1600.0, 12000.0, 7200.0  # Table 1
  config.total_kimg = default.by_network(config, *lengths)
  config.eval_kimg = 400.0  # at most 5 % of the time, even on eight chips
  return config
