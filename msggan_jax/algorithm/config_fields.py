"""Configurations: what is possible, what follows, what a workdir holds."""

from ml_collections import ConfigDict

from msggan_jax.algorithm.losses import ADVERSARIAL_LOSSES
from msggan_jax.algorithm.penalties import PENALTIES
from msggan_jax.models.discriminator import COMBINE_FUNCTIONS
from msggan_jax.models.pyramid import connected_scales
from msggan_jax.models.stddev import GROUPINGS

CHOICES = {
  "model": ("progan", "stylegan"),
  "combine": COMBINE_FUNCTIONS,
  "stddev_placement": ("every_block", "last_block"),
  "stddev_grouping": GROUPINGS,
  "output_activation": ("linear", "tanh"),
  "loss": tuple(ADVERSARIAL_LOSSES),
  "penalty": tuple(PENALTIES),
  "penalty_derivatives": ("total", "partial"),
  "optimizer": ("rmsprop", "adam"),
  "g_step_latents": ("same", "fresh"),
  "precision": ("float32", "bfloat16"),
  "extractor_precision": ("float32", "bfloat16"),
  "dataset.crop": ("center", "pad"),
}


# Fields that may change between a run and its resumption.
FREE_FIELDS = (
  "total_kimg",
  "log_kimg",
  "sample_kimg",
  "snapshot_kimg",
  "eval_kimg",
  "metrics",
  "inception_path",
  "extractor",
  "extractor_precision",
  "keep",
  "keep_kimg",
  "dataset",
  "micro_batch_size",
  "remat_from",
  "max_rollbacks",
)

POSITIVE = (
  "batch_size",
  "channels",
  "latent_size",
  "w_size",
  "mapping_size",
  "mapping_layers",
  "base_channels",
  "max_channels",
  "penalty_interval",
  "learning_rate",
  "keep",
  "total_kimg",
)

NOT_NEGATIVE = (
  "num_classes",
  "stddev_group",
  "micro_batch_size",
  "max_rollbacks",
  "ema_kimg",
  "log_kimg",
  "sample_kimg",
  "snapshot_kimg",
  "keep_kimg",
  "eval_kimg",
)

# What MSG-StyleGAN has only in this form.
STYLEGAN_ONLY_WITH = {
  "equalized": True,
  "spectral_norm": False,
  "normalize_latents": True,
  "output_activation": "linear",
}


def validate(config: ConfigDict, num_devices: int) -> None:
  """Check everything that can be checked before anything is compiled.

  Args:
    config: The configuration.
    num_devices: Devices of all processes.

  Raises:
    ValueError: In one sentence, naming the field and the choices.
  """
  for field, choices in CHOICES.items():
    value = _get(config, field)
    if value not in choices:
      raise ValueError(
        f"config.{field} is {value!r}; choose one of {', '.join(choices)}"
      )
  for field in POSITIVE:
    if _get(config, field) <= 0:
      raise ValueError(
        f"config.{field} is {_get(config, field)}; it must be positive"
      )
  remat_from = config.remat_from
  if remat_from != "auto" and (
    not isinstance(remat_from, int) or remat_from < 0
  ):
    raise ValueError(
      f"config.remat_from is {remat_from!r}; choose a resolution, 0 or auto"
    )
  for field in NOT_NEGATIVE:
    if config[field] < 0:
      raise ValueError(f"config.{field} is {config[field]}; choose 0 or more")
  if config.model == "stylegan":
    for field, value in STYLEGAN_ONLY_WITH.items():
      if config[field] != value:
        raise ValueError(
          f"config.{field} is {config[field]!r}; config.model stylegan has "
          f"only {value!r}, choose that or config.model progan"
        )
  check_resolution(config.resolution)
  connected_scales(config)
  _check_batch(config, num_devices)


def check_resolution(resolution: int) -> None:
  """Raise ValueError unless the resolution is a power of two from 4 up."""
  if resolution < 4 or resolution & (resolution - 1):
    raise ValueError(
      f"resolution is {resolution}; it must be a power of two, 4 or more"
    )


def _check_batch(config: ConfigDict, num_devices: int) -> None:
  group = config.stddev_group
  if group and config.stddev_grouping == "strided" and num_devices > 1:
    raise ValueError(
      "config.stddev_grouping is strided, whose groups span the whole batch, "
      f"and there are {num_devices} devices; choose contiguous, or one device"
    )
  multiple = num_devices * max(group, 1)
  if config.batch_size % multiple:
    raise ValueError(
      f"config.batch_size is {config.batch_size}; with {num_devices} "
      f"device(s) and config.stddev_group {group} it must be a multiple of "
      f"{multiple}"
    )
  _check_micro_batch(config, config.batch_size // num_devices)


def _check_micro_batch(config: ConfigDict, device_batch_size: int) -> None:
  size, group = config.micro_batch_size, config.stddev_group
  if size in (0, device_batch_size):
    return
  if not group or config.stddev_grouping == "strided":
    raise ValueError(
      f"config.micro_batch_size is {size}, but the minibatch stddev spans the "
      "whole batch; choose 0, or config.stddev_group above 0 with "
      "config.stddev_grouping contiguous"
    )
  if device_batch_size % size or size % group:
    raise ValueError(
      f"config.micro_batch_size is {size}; it must be a multiple of "
      f"config.stddev_group {group} that divides the {device_batch_size} "
      "examples of a device"
    )


def check_classes(config: ConfigDict, num_classes: int) -> None:
  """Raise ValueError unless the data has the classes to be trained on."""
  if config.num_classes and config.num_classes != num_classes:
    raise ValueError(
      f"config.num_classes is {config.num_classes}, but the data set has "
      f"{num_classes} classes; 0 trains without labels"
    )


def _get(config: ConfigDict, field: str):
  for name in field.split("."):
    config = config[name]
  return config
