r"""Any folder or zip of images.

  python -m msggan_jax.main --config=configs/image_folder.py \
    --config.dataset.path=photos --config.resolution=128 --workdir=runs/photos

image_folder.py:few_images, or :few_images,PRESET, chooses augmentation, loss,
batch, EMA and length by the number of images, and prints which and why.
"""

from msggan_jax.configs import default


def get_config(choice="msg_progan"):
  """Return a preset on a folder; size, batch and length are ours."""
  few, _, preset = choice.partition(",")
  if few not in (choices := ["few_images", *default.PRESETS]):
    raise ValueError(f"{few!r} is none of {', '.join(choices)}")
  if few != "few_images":
    few, preset = "", choice
  config = default.get_config(preset or "msg_progan")
  config.dataset.name = "folder"
  config.resolution = 128
  config.batch_size = 32
  config.total_kimg = 12000.0 if config.grow_from else 2000.0
  if few:
    config.augment = "auto"  # see msggan_jax/config/few_images.py
  return config
