"""BMSG-GAN's state dicts: GAN_GEN_*.pth, GAN_GEN_SHADOW_*.pth, GAN_DIS_*.pth.

Kernels are stored before the equalized learning rate's scaling, like ours.
"""

from collections.abc import Mapping

import numpy as np

from msggan_jax.checkpoints.tensors import SAME, Source, Table, quote
from msggan_jax.sharing.foreign.layouts import (
  TORCH_CONV_AS_DENSE,
  TORCH_LATENT,
  Weights,
  scales_up_to,
  torch_conv,
)
from msggan_jax.sharing.foreign.torch_file import read_torch

PRESET = "bmsg_gan"

_MAX_SCALES = 11  # 4096x4096


def read(generator: str, discriminator: str | None) -> Weights:
  """Read a generator and, optionally, a discriminator.

  Args:
    generator: Path of a GAN_GEN or GAN_GEN_SHADOW file; it becomes both the
      generator and its moving average.
    discriminator: Path of a GAN_DIS file, or None.

  Raises:
    FileNotFoundError: If a file does not exist.
    ValueError: If a file is unreadable or contains another network.
  """
  tensors = read_state_dict(generator)
  fields = architecture(generator, tensors, "layers.0.conv_1.weight")
  scales = scales_up_to(fields["resolution"])
  return Weights(
    fields,
    generator=tensors,
    ema=tensors,
    discriminator=read_state_dict(discriminator) if discriminator else None,
    g_table=generator_table(scales),
    d_table=discriminator_table(scales),
  )


def read_state_dict(path: str) -> dict[str, np.ndarray]:
  """Read tensors; drop DataParallel's "module." from their names.

  Raises:
    FileNotFoundError: If the file does not exist.
    ValueError: If it is unreadable, or two names become equal.
  """
  tensors = {}
  for name, tensor in read_torch(path).items():
    short = ".".join(part for part in name.split(".") if part != "module")
    if short in tensors:
      raise ValueError(
        f"{path}: {quote(short)} occurs with and without 'module.'"
      )
    tensors[short] = tensor
  return tensors


def architecture(
  path: str, generator: Mapping[str, np.ndarray], latent_kernel: str
) -> dict[str, int]:
  """Infer config fields from a generator's tensors.

  Args:
    path: The generator's file, for errors.
    generator: Name to tensor.
    latent_kernel: The name of the first kernel.

  Raises:
    ValueError: If the tensors are not a generator's.
  """
  latent = generator.get(latent_kernel)
  to_rgb = [
    tensor
    for name, tensor in generator.items()
    if name.startswith("rgb_converters.") and name.endswith(".bias")
  ]
  if (
    latent is None
    or latent.ndim != 4
    or not 1 <= len(to_rgb) <= _MAX_SCALES
    or to_rgb[0].ndim != 1
  ):
    raise ValueError(
      f"{path}: this is no generator of this source: it needs {latent_kernel} "
      f"and 1 to {_MAX_SCALES} rgb_converters"
    )
  latent_size = latent.shape[0]
  return {
    "resolution": 4 * 2 ** (len(to_rgb) - 1),
    "channels": len(to_rgb[0]),
    "latent_size": latent_size,
    "base_channels": 32 * latent_size,
    "max_channels": latent_size,
  }


def generator_table(scales: tuple[int, ...]) -> Table:
  """Return the sources of the generator's parameters; scales from 4 up."""
  table = {
    "block_4x4.dense.kernel": Source("layers.0.conv_1.weight", TORCH_LATENT),
    "block_4x4.bias": Source("layers.0.conv_1.bias", SAME),
  }
  table |= torch_conv("block_4x4.conv", "layers.0.conv_2")
  for i, r in enumerate(scales):
    if i:
      table |= torch_conv(f"block_{r}x{r}.conv_0", f"layers.{i}.conv_1")
      table |= torch_conv(f"block_{r}x{r}.conv_1", f"layers.{i}.conv_2")
    table |= torch_conv(f"to_rgb_{r}x{r}", f"rgb_converters.{i}")
  return table


def discriminator_table(scales: tuple[int, ...]) -> Table:
  """Return the sources of the discriminator's parameters; scales from 4 up."""
  table = blocks("block_4x4", "final_block")
  table["score.kernel"] = Source(
    "final_block.conv_3.weight", TORCH_CONV_AS_DENSE
  )
  table["score.bias"] = Source("final_block.conv_3.bias", SAME)
  for i, r in enumerate(scales):
    rgb = f"rgb_to_features.{i - 1}" if i else "final_converter"
    if r == scales[-1]:
      table |= torch_conv(f"from_rgb_{r}x{r}", rgb)
    else:
      table |= torch_conv(f"block_{r}x{r}.combine.conv", rgb)
    if i:
      table |= blocks(f"block_{r}x{r}", f"layers.{i - 1}")
  return table


def blocks(ours: str, theirs: str) -> Table:
  """Map the two convolutions of a discriminator block."""
  return torch_conv(f"{ours}.conv_0", f"{theirs}.conv_1") | torch_conv(
    f"{ours}.conv_1", f"{theirs}.conv_2"
  )
