"""Convert weight files of other implementations to a workdir."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import train_state
from msggan_jax.checkpoints import checkpoint
from msggan_jax.checkpoints.tensors import (
  Weights,
  describe,
  to_trees,
)
from msggan_jax.config import saved
from msggan_jax.configs import default
from msggan_jax.data.pixels import check_resolution
from msggan_jax.models import networks
from msggan_jax.sharing.foreign import bmsg_gan, msg_stylegan_tf

# A source -> the preset of the fields that weights do not determine.
PRESETS = {
  "bmsg-gan": "bmsg_gan",
  "msg-gan-v1": "msg_gan_v1",
  "msg-stylegan-tf": "msg_stylegan_official",
}


def read(source: str, generator: str, discriminator: str | None) -> Weights:
  """Read weight files of a source, a key of `PRESETS`.

  `generator` may be the file of all networks. ValueError if a file is
  unreadable or does not match the source.
  """
  if source != "msg-stylegan-tf":
    is_v1 = source == "msg-gan-v1"
    return bmsg_gan.read(generator, discriminator, spectral_norm=is_v1)
  if discriminator:
    raise ValueError(
      "--discriminator: files of msg-stylegan-tf contain all networks; give "
      "only --generator"
    )
  return msg_stylegan_tf.read(generator)


def write(weights: Weights, preset: str, workdir: Path) -> ConfigDict:
  """Write the workdir of a run at step 0; return its configuration.

  A missing discriminator is initialized.

  Raises:
    ValueError: If the workdir is not new or empty, or tensors do not match (all
      are listed); nothing is written then.
  """
  # A full disk leaves empty folders.
  is_empty_folder = workdir.is_dir() and all(
    path.is_dir() for path in workdir.rglob("*")
  )
  if workdir.exists() and not is_empty_folder:
    raise ValueError(f"{workdir} is not empty; choose another --workdir")
  check_resolution(weights.fields["resolution"])
  config = default.get_config(preset)
  config.update(weights.fields)
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  converted = _fit(weights, generator, discriminator)
  if "d" not in converted:
    converted["d"] = discriminator.init(jax.random.key(config.seed))
  state = train_state.assemble(
    config, **converted, optimizer=train_state.make_optimizer(config)
  )
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.save(0, jax.device_put(state))
  saved.save_config(config, workdir)
  return config


def _fit(weights: Weights, generator, discriminator) -> dict[str, Any]:
  """Convert all weights to our trees: arguments of `train_state.assemble`."""
  g_shapes = generator.shapes
  files = {"g": ("generator", weights.generator, weights.g_table, g_shapes)}
  if weights.ema is not weights.generator:
    files["ema"] = ("EMA generator", weights.ema, weights.g_table, g_shapes)
  if (tensors := weights.discriminator) is not None:
    d_shapes = discriminator.shapes
    files["d"] = ("discriminator", tensors, weights.d_table, d_shapes)
  fitted, problems = {}, []
  for prefix, (name, *file) in files.items():
    fitted[prefix], misfits = to_trees(*file)
    if misfits:
      problems.append(describe(name, misfits))
  if problems:
    raise ValueError("\n".join(problems))
  return {"ema": fitted["g"], **fitted}
