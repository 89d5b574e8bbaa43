"""CelebA-HQ, 30,000 faces, 1024x1024.

The paper's FID (Table 2): MSG-StyleGAN 6.37. TFDS needs a manual download,
which the command explains.
"""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on CelebA-HQ; length and MSG-ProGAN's batch are ours."""
  config = default.get_config(preset)
  config.dataset.name = "celeb_a_hq/1024"
  config.resolution = 1024
  config.batch_size = 32 if config.model == "stylegan" else 16
  lengths = 6000.0, 9600.0, 12000.0, 25000.0  # as FFHQ's
  config.total_kimg = default.by_network(config, *lengths)
  config.snapshot_kimg = 100.0
  return config
