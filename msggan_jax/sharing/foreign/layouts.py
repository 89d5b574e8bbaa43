"""Layouts of PyTorch's tensors, and the weights of a file."""

from typing import Any, NamedTuple

import numpy as np

from msggan_jax.checkpoints.tensors import SAME, Layout, Source, Table


class Weights(NamedTuple):
  """Contents of an implementation's files, ready for `to_trees`."""

  fields: dict[str, Any]  # config fields that override the preset
  generator: dict[str, np.ndarray]
  ema: dict[str, np.ndarray]  # the generator's moving average
  discriminator: dict[str, np.ndarray] | None  # None: no file given
  g_table: Table
  d_table: Table


# PyTorch's convolution kernels: OIHW to HWIO.
TORCH_CONV = Layout(
  lambda s: (s[3], s[2], s[0], s[1]), lambda x: x.transpose(2, 3, 1, 0)
)
# A 1x1 convolution that is a dense layer here: (O, I, 1, 1) to (I, O).
TORCH_CONV_AS_DENSE = Layout(
  lambda s: (s[1], s[0], 1, 1), lambda x: x[:, :, 0, 0].T
)
# A 4x4 transposed convolution of a 1x1 input is a dense layer here:
# (I, O, 4, 4) to (I, 4 4 O).
TORCH_LATENT = Layout(
  lambda s: (s[0], s[1] // 16, 4, 4),
  lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1),
)


def scales_up_to(resolution: int) -> tuple[int, ...]:
  """Return 4, 8, ..., `resolution`."""
  return tuple(2**i for i in range(2, resolution.bit_length()))


def torch_conv(ours: str, theirs: str) -> Table:
  """Map a convolution with a bias."""
  return {
    f"{ours}.kernel": Source(f"{theirs}.weight", TORCH_CONV),
    f"{ours}.bias": Source(f"{theirs}.bias", SAME),
  }
