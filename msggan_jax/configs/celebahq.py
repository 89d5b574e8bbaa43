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
  stylegan = config.model == "stylegan"
  config.batch_size = 32 if stylegan else 16
  config.total_kimg = 9600.0 if stylegan else 6000.0  # as FFHQ's
  config.snapshot_kimg = 100.0
  return config
