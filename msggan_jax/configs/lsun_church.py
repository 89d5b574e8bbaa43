"""LSUN Churches (outdoor), 126,000 images, 256x256.

Set --config.dataset.path to the folder church_outdoor_train_lmdb. The paper's
FID (Table 1): MSG-StyleGAN 5.20.
"""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on LSUN Churches; MSG-ProGAN's numbers here are ours."""
  config = default.get_config(preset)
  config.dataset.name = "lsun_church"
  config.resolution = 256
  config.mirror = False
  config.batch_size = 32
  lengths = 24000.0, 24000.0, 25000.0, 25000.0  # Table 1
  config.total_kimg = default.by_network(config, *lengths)
  config.snapshot_kimg = 200.0
  config.eval_kimg = 400.0  # at most 5 % of the time, even on eight chips
  return config
