"""Any folder or zip of images.

  python -m msggan_jax.main --config=configs/image_folder.py \\
    --config.dataset.path=photos --config.resolution=128 --workdir=runs/photos
"""

import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).with_name("default.py")


def get_config(preset="msg_progan"):
  """Return a preset on a folder; size, batch and length are ours."""
  config = runpy.run_path(str(_DEFAULT))["get_config"](preset)
  config.dataset.name = "folder"
  config.resolution = 128
  config.batch_size = 32
  config.total_kimg = 2000.0
  return config
