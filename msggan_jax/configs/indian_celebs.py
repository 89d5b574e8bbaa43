"""Indian Celebs, 3,000 photographs, 256x256, a folder that the user has.

Set --config.dataset.path to it. The paper's FID (Table 1): MSG-ProGAN 36.72,
MSG-StyleGAN 28.44.
"""

from msggan_jax.configs import default


def get_config(preset="msg_progan"):
  """Return a preset on Indian Celebs; MSG-ProGAN's batch size is ours."""
  config = default.get_config(preset)
  config.dataset.name = "folder"
  config.resolution = 256
  config.batch_size = 16 if config.model == "stylegan" else 32
  lengths = 2000.0, 1000.0, 9000.0, 6000.0  # Table 1
  config.total_kimg = default.by_network(config, *lengths)
  config.eval_kimg = 400.0  # at most 5 % of the time, even on eight chips
  return config
