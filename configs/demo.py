"""The demo: embedded images, minutes on two CPU cores.

python -m msggan_jax.main --config=configs/demo.py          (cats)
python -m msggan_jax.main --config=configs/demo.py:earth    (satellite tiles)
"""

import pathlib
import runpy

_DEFAULT = pathlib.Path(__file__).with_name("default.py")


def get_config(name="cats"):
  """Return the demo on "cats" or "earth"; all numbers here are ours."""
  if name not in ("cats", "earth"):
    raise ValueError(f"configs/demo.py:{name}; choose cats or earth")
  config = runpy.run_path(str(_DEFAULT))["get_config"]()
  config.dataset.name = name
  config.resolution = 32
  config.latent_size = 64
  config.base_channels = 48 * 32
  config.max_channels = 48
  config.batch_size = 16
  config.total_kimg = 16.0
  config.ema_kimg = 1.0
  config.log_kimg = 0.16
  config.sample_kimg = 2.0
  config.snapshot_kimg = 4.0
  return config
