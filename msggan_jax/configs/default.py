"""The paper's MSG-ProGAN, or another preset, without a data set.

Every field and its meaning: docs/configuration.md, written from the table in
`msggan_jax/config/fields.py`.
python -m msggan_jax.main --config=configs/default.py:msg_stylegan \
  --config.dataset.name=cifar10 --config.resolution=32
"""

from msggan_jax.configs.presets import (
  bmsg_gan,
  msg_gan_v1,
  msg_progan,
  msg_r3,
  msg_residual,
  msg_stylegan,
  msg_stylegan_official,
)

PRESETS = {
  "msg_progan": msg_progan,
  "msg_stylegan": msg_stylegan,
  "msg_stylegan_official": msg_stylegan_official,
  "bmsg_gan": bmsg_gan,
  "msg_gan_v1": msg_gan_v1,
  "msg_r3": msg_r3,
  "msg_residual": msg_residual,
}


def get_config(preset="msg_progan"):
  """Return a preset's configuration; the data set is missing.

  Raises:
    ValueError: If there is no preset of that name.
  """
  if preset not in PRESETS:
    raise ValueError(
      f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}"
    )
  return PRESETS[preset].get_config()
