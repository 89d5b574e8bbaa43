"""Frozen networks: weights on the local devices, images in, features out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.checkpoints.tensors import digest
from msggan_jax.data.pictures import to_rgb
from msggan_jax.kernels.precision import products_of
from msggan_jax.runtime import sharding

Features = dict[str, np.ndarray]  # by name, each (N, D)
Images = np.ndarray | jax.Array  # uint8, (N, H, W, C)
Layer = dict[str, jax.Array]  # "kernel" and "bias"

# Images of a batch. More would leave the cache of a CPU of one or two cores.
_PER_DEVICE, _PER_CPU = 16, 2
_BATCH_NORM_EPSILON = 1e-3


class Layers:
  """Layers by name, converted once from a state dict's arrays.

  A network's function requests each layer with its shape, so that no second
  description of the network is needed.
  """

  def __init__(self, arrays: dict[str, np.ndarray], dtype: jnp.dtype, **made):
    """Wrap a state dict, the activations' dtype and the finished layers."""
    self._arrays = arrays
    self.dtype = dtype
    self.made: dict[str, Layer] = made
    self.used: dict[str, np.ndarray] = {}  # arrays of the state dict

  def conv(
    self, name: str, norm: str, shape: tuple[int, int, int, int]
  ) -> Layer:
    """Return a convolution fused with the batch norm after it.

    `shape` is (out, in / groups, height, width), the kernel's is (height,
    width, in / groups, out).
    """
    if name not in self.made:
      kernel = self._take(f"{name}.weight", shape)
      scale, shift, mean, variance = (
        self._take(f"{norm}.{part}", shape[:1]).astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
      )
      scale = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
      self.made[name] = {
        "kernel": (kernel.transpose(2, 3, 1, 0) * scale).astype(self.dtype),
        "bias": (shift - mean * scale).astype(self.dtype),
      }
    return self.made[name]

  def dense(self, name: str, shape: tuple[int, int]) -> Layer:
    """Return a dense layer in float32; shape is (out, in), its kernel's not."""
    if name not in self.made:
      self.made[name] = {
        "kernel": self._take(f"{name}.weight", shape).T,
        "bias": self._take(f"{name}.bias", shape[:1]),
      }
    return self.made[name]

  def _take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in self._arrays:
      raise ValueError(f"the weights lack {name}")
    array = np.asarray(self._arrays[name])
    if array.shape != shape or array.dtype != np.float32:
      raise ValueError(
        f"the weights' {name} is {array.dtype} {array.shape}, not float32 "
        f"{shape}"
      )
    self.used[name] = array
    return array


# (layers, uint8 images (B, H, W, 3)) -> features by name, each (B, D)
Apply = Callable[[Layers, jax.Array], dict[str, jax.Array]]


class FrozenNetwork:
  """Computes features of any number of images, on all local devices.

  Batches are padded to the largest one so far, so that few shapes are compiled.
  """

  def __init__(
    self, apply: Apply, arrays: dict[str, np.ndarray], dtype: jnp.dtype
  ):
    """Make a network from a function and a state dict, with activations' dtype.

    A missing array or one of a wrong shape raises ValueError.
    """
    layers = Layers(arrays, dtype)
    any_image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    jax.eval_shape(lambda images: apply(layers, images), any_image)
    self.weights_hash = digest(layers.used)
    if dtype != jnp.float32:
      # Numbers differ by dtype, so they do not share a cache.
      self.weights_hash += f"-{jnp.dtype(dtype).name}"
    mesh = sharding.make_mesh(jax.local_devices())
    self._layers = jax.device_put(layers.made, sharding.replicated(mesh))
    self._along_batch = sharding.along_batch(mesh)
    self._apply = jax.jit(
      lambda made, images: apply(Layers({}, dtype, **made), images)
    )
    self._padded_size = 0

  def features(self, images: Images) -> Features:
    """Compute the features of images, float32.

    They are uint8, (N, H, W, C), C = 1 (gray), 3 (RGB) or 4 (RGBA, composited
    over white). Batches from `on_local_devices` stay there, but on CPUs.
    """
    images = _checked(images)
    devices = self._along_batch.num_devices
    most = _PER_CPU if jax.default_backend() == "cpu" else _PER_DEVICE
    wanted = min(-(-len(images) // devices), most) * devices
    if isinstance(images, jax.Array) and len(images) == wanted:
      return self._features_of(images)
    images = np.asarray(images)
    self._padded_size = max(self._padded_size, wanted)
    parts = []
    for start in range(0, len(images), self._padded_size):
      batch = images[start : start + self._padded_size]
      padding = [(0, self._padded_size - len(batch)), (0, 0), (0, 0), (0, 0)]
      computed = self._features_of(np.pad(batch, padding))
      parts.append({name: x[: len(batch)] for name, x in computed.items()})
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)

  def _features_of(self, batch: Images) -> Features:
    batch = jax.device_put(batch, self._along_batch)
    return jax.device_get(self._apply(self._layers, batch))


def on_local_devices(images: np.ndarray) -> Images:
  """Upload a batch, sharded over the local devices, if they divide it."""
  if len(images) % jax.local_device_count():
    return images
  mesh = sharding.make_mesh(jax.local_devices())
  return sharding.put_batch(mesh, {"images": images})["images"]


def convolve(
  x: jax.Array, layer: Layer, stride: int = 1, padding: str = "SAME"
) -> jax.Array:
  """Convolve, (B, H, W, in) -> (B, H', W', out), and add the bias."""
  x = jax.lax.conv_general_dilated(
    x,
    layer["kernel"],
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=products_of(x.dtype),
  )
  return x + layer["bias"][None, None, None]


def spatial_mean(x: jax.Array) -> jax.Array:
  """Average over the pixels: (B, H, W, C) -> (B, C), float32."""
  return x.astype(jnp.float32).mean(axis=(1, 2))


def _checked(images: Images) -> Images:
  if not isinstance(images, jax.Array):
    images = np.asarray(images)
  channels = images.shape[-1] if images.ndim == 4 else 0
  if images.dtype != np.uint8 or channels not in (1, 3, 4) or not len(images):
    raise ValueError(
      f"images have type {images.dtype} and shape {images.shape}; give uint8 "
      "(N, H, W, C), N at least 1 and C = 1, 3 or 4"
    )
  return to_rgb(images)
