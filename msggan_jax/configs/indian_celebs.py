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
  stylegan = config.model == "stylegan"
  config.batch_size = 16 if stylegan else 32
  config.total_kimg = 1000.0 if stylegan else 2000.0  # Table 1
  config.eval_kimg = 400.0  # at most 5 % of the time, even on eight chips
  return config
