"""FFHQ, 70,000 faces, 1024x1024, the folder images1024x1024.

Set --config.dataset.path to it. The paper's FID (Table 2): MSG-ProGAN 8.36,
MSG-StyleGAN 5.80.
"""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on FFHQ; the batch size is ours."""
  config = default.get_config(preset)
  config.dataset.name = "folder"
  config.resolution = 1024
  config.batch_size = 16
  # Table 2, and those of the authors of ProGAN and StyleGAN.
  lengths = 6000.0, 9600.0, 12000.0, 25000.0
  config.total_kimg = default.by_network(config, *lengths)
  config.snapshot_kimg = 100.0
  return config
