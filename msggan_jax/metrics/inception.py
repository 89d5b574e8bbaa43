"""Inception v3 for FID: the TensorFlow graph of 2015-12-05.

Differs from the published network: average pools do not count the padding, the
last block pools by maximum, and there are 1008 classes.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from msggan_jax.kernels.precision import matmul
from msggan_jax.metrics import frozen_network
from msggan_jax.metrics.frozen_network import Layers
from msggan_jax.sharing.foreign.torch_file import read_torch

_SIDE = 299  # pixels of the network's input
_CLASSES = 1008

# conv(name, x, channels, kernel=1, stride=1, padding="SAME") -> x
_Conv = Callable[..., jax.Array]


class Inception(frozen_network.FrozenNetwork):
  """The network with its weights.

  Its features: "64", "192" and "768", spatial means after the first and the
  second pool and the last 17x17 block; "2048", for FID, KID, precision and
  recall; "logits_unbiased", for the inception score; "logits".
  """

  pooled = "2048"
  logits = "logits_unbiased"

  @classmethod
  def from_state_dict(
    cls, arrays: dict[str, np.ndarray], dtype: jnp.dtype = jnp.float32
  ) -> "Inception":
    """Make the network from float32 arrays under their PyTorch names.

    These are those of `pt_inception-2015-12-05-6726825d.pth`; others are
    ignored. The activations' dtype is float32 or bfloat16.
    """
    return cls(_apply, arrays, dtype)

  @classmethod
  def from_file(
    cls, path: str | Path, dtype: jnp.dtype = jnp.float32
  ) -> "Inception":
    """Make the network from a weight file of pytorch-fid or torch-fidelity."""
    arrays = read_torch(path)
    try:
      return cls.from_state_dict(arrays, dtype)
    except ValueError as error:
      raise ValueError(
        f"{path} is not Inception v3 of 2015-12-05: {error}"
      ) from error


def resize(images: jax.Array, side: int) -> jax.Array:
  """Resize as TensorFlow 1 does: bilinear, no half pixels, no smoothing.

  Output pixel i is at i * size / side of the input; shrinking does not average.
  (B, H, W, C) of any real type to (B, side, side, C), float32.
  """
  images = images.astype(jnp.float32)
  for axis in (1, 2):
    size = images.shape[axis]
    place = np.arange(side, dtype=np.float32) * np.float32(size / side)
    low = np.minimum(place.astype(np.int32), size - 1)
    shape = [1] * images.ndim
    shape[axis] = side
    fraction = (place - low.astype(np.float32)).reshape(shape)
    lower = jnp.take(images, low, axis=axis)
    upper = jnp.take(images, np.minimum(low + 1, size - 1), axis=axis)
    images = lower + (upper - lower) * fraction
  return images


def _apply(layers: Layers, images: jax.Array) -> dict[str, jax.Array]:
  def conv(name, x, channels, kernel=1, stride=1, padding="SAME"):
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    shape = (channels, x.shape[-1], *kernel)
    layer = layers.conv(f"{name}.conv", f"{name}.bn", shape)
    return jax.nn.relu(frozen_network.convolve(x, layer, stride, padding))

  features = {}
  x = (resize(images, _SIDE) - 128) / 128
  x = x.astype(layers.dtype)
  x = conv("Conv2d_1a_3x3", x, 32, 3, stride=2, padding="VALID")
  x = conv("Conv2d_2a_3x3", x, 32, 3, padding="VALID")
  x = conv("Conv2d_2b_3x3", x, 64, 3)
  x = _max_pool(x)
  features["64"] = frozen_network.spatial_mean(x)
  x = conv("Conv2d_3b_1x1", x, 80)
  x = conv("Conv2d_4a_3x3", x, 192, 3, padding="VALID")
  x = _max_pool(x)
  features["192"] = frozen_network.spatial_mean(x)
  x = _block_a(conv, "Mixed_5b", x, pool_channels=32)
  x = _block_a(conv, "Mixed_5c", x, pool_channels=64)
  x = _block_a(conv, "Mixed_5d", x, pool_channels=64)
  x = _block_b(conv, "Mixed_6a", x)
  x = _block_c(conv, "Mixed_6b", x, 128)
  x = _block_c(conv, "Mixed_6c", x, 160)
  x = _block_c(conv, "Mixed_6d", x, 160)
  x = _block_c(conv, "Mixed_6e", x, 192)
  features["768"] = frozen_network.spatial_mean(x)
  x = _block_d(conv, "Mixed_7a", x)
  x = _block_e(conv, "Mixed_7b", x, pool=_average_pool)
  x = _block_e(conv, "Mixed_7c", x, pool=_max_pool_same)
  features["2048"] = frozen_network.spatial_mean(x)
  fc = layers.dense("fc", (_CLASSES, 2048))
  features["logits_unbiased"] = matmul(features["2048"], fc["kernel"])
  features["logits"] = features["logits_unbiased"] + fc["bias"][None]
  return features


def _block_a(conv: _Conv, name: str, x: jax.Array, pool_channels: int):
  """35x35."""
  a = conv(f"{name}.branch1x1", x, 64)
  b = conv(f"{name}.branch5x5_1", x, 48)
  b = conv(f"{name}.branch5x5_2", b, 64, 5)
  c = conv(f"{name}.branch3x3dbl_1", x, 64)
  c = conv(f"{name}.branch3x3dbl_2", c, 96, 3)
  c = conv(f"{name}.branch3x3dbl_3", c, 96, 3)
  d = conv(f"{name}.branch_pool", _average_pool(x), pool_channels)
  return jnp.concatenate([a, b, c, d], axis=-1)


def _block_b(conv: _Conv, name: str, x: jax.Array):
  """35x35 to 17x17."""
  a = conv(f"{name}.branch3x3", x, 384, 3, stride=2, padding="VALID")
  b = conv(f"{name}.branch3x3dbl_1", x, 64)
  b = conv(f"{name}.branch3x3dbl_2", b, 96, 3)
  b = conv(f"{name}.branch3x3dbl_3", b, 96, 3, stride=2, padding="VALID")
  return jnp.concatenate([a, b, _max_pool(x)], axis=-1)


def _block_c(conv: _Conv, name: str, x: jax.Array, inner: int):
  """17x17."""
  a = conv(f"{name}.branch1x1", x, 192)
  b = conv(f"{name}.branch7x7_1", x, inner)
  b = conv(f"{name}.branch7x7_2", b, inner, (1, 7))
  b = conv(f"{name}.branch7x7_3", b, 192, (7, 1))
  c = conv(f"{name}.branch7x7dbl_1", x, inner)
  c = conv(f"{name}.branch7x7dbl_2", c, inner, (7, 1))
  c = conv(f"{name}.branch7x7dbl_3", c, inner, (1, 7))
  c = conv(f"{name}.branch7x7dbl_4", c, inner, (7, 1))
  c = conv(f"{name}.branch7x7dbl_5", c, 192, (1, 7))
  d = conv(f"{name}.branch_pool", _average_pool(x), 192)
  return jnp.concatenate([a, b, c, d], axis=-1)


def _block_d(conv: _Conv, name: str, x: jax.Array):
  """17x17 to 8x8."""
  a = conv(f"{name}.branch3x3_1", x, 192)
  a = conv(f"{name}.branch3x3_2", a, 320, 3, stride=2, padding="VALID")
  b = conv(f"{name}.branch7x7x3_1", x, 192)
  b = conv(f"{name}.branch7x7x3_2", b, 192, (1, 7))
  b = conv(f"{name}.branch7x7x3_3", b, 192, (7, 1))
  b = conv(f"{name}.branch7x7x3_4", b, 192, 3, stride=2, padding="VALID")
  return jnp.concatenate([a, b, _max_pool(x)], axis=-1)


def _block_e(conv: _Conv, name: str, x: jax.Array, pool: Callable):
  """8x8."""
  a = conv(f"{name}.branch1x1", x, 320)
  b = conv(f"{name}.branch3x3_1", x, 384)
  b1 = conv(f"{name}.branch3x3_2a", b, 384, (1, 3))
  b2 = conv(f"{name}.branch3x3_2b", b, 384, (3, 1))
  c = conv(f"{name}.branch3x3dbl_1", x, 448)
  c = conv(f"{name}.branch3x3dbl_2", c, 384, 3)
  c1 = conv(f"{name}.branch3x3dbl_3a", c, 384, (1, 3))
  c2 = conv(f"{name}.branch3x3dbl_3b", c, 384, (3, 1))
  d = conv(f"{name}.branch_pool", pool(x), 192)
  return jnp.concatenate([a, b1, b2, c1, c2, d], axis=-1)


def _max_pool(x: jax.Array) -> jax.Array:
  return nnx.max_pool(x, (3, 3), strides=(2, 2))


def _max_pool_same(x: jax.Array) -> jax.Array:
  return nnx.max_pool(x, (3, 3), padding="SAME")


def _average_pool(x: jax.Array) -> jax.Array:
  def total(x):
    zero, size = np.zeros((), x.dtype), (1, 3, 3, 1)
    return jax.lax.reduce_window(x, zero, jax.lax.add, size, (1,) * 4, "SAME")

  return total(x) / total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
