"""Training on GPUs: plain arrays in fewer passes, by the compiler's count.

1x1 convolutions from or to an image are products and sums of arrays, which XLA
fuses with what comes before and after; cuDNN would read and write the features
in float32. The stddev layer is that of TPUs. Its statistic joins features where
an image does, in one copy; elsewhere it is convolved apart.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import Products
from msggan_jax.kernels.tpu import operations, stddev
from msggan_jax.kernels.tpu.folded import Channels

_FEW = 4


def convolve(
  x: jax.Array | Channels,
  kernel: jax.Array,
  bias: jax.Array | None,
  products: Products,
  before_window: bool = False,
) -> jax.Array:
  """Convolve and add a bias."""
  del before_window
  if isinstance(x, Channels) and x.few is None:
    return operations.convolve(x, kernel, bias, products)
  return plain.add_bias(_convolve(stddev.join(x), kernel, products), bias)


def prepend(image: jax.Array, x: jax.Array) -> Channels:
  """Put an image's channels before x, apart until the stddev layer."""
  return Channels(image.astype(x.dtype), x)


enter = functools.partial(operations.enter, on_gpus=True)


def _pays(x: jax.Array, kernel_shape: tuple[int, ...]) -> bool:
  return (
    kernel_shape[:2] == (1, 1)
    and min(kernel_shape[2:]) <= _FEW
    and x.dtype != jnp.bfloat16  # whose sums would be rounded
  )


def _convolve_once(x, kernel, products: Products) -> jax.Array:
  if not _pays(x, kernel.shape):
    return plain.convolve(x, kernel, products)
  inputs, outputs = kernel.shape[2:]
  if inputs <= _FEW:
    return sum(
      x[..., i : i + 1] * kernel[:, :, i : i + 1] for i in range(inputs)
    )
  columns = [kernel[None, ..., o] for o in range(outputs)]
  return jnp.stack([(x * k).sum(axis=-1) for k in columns], axis=-1)


def _correlate(x, y, size: int, products: Products) -> jax.Array:
  if not _pays(x, (size, size, x.shape[-1], y.shape[-1])):
    padding = [(size // 2, size // 2)] * 2
    return plain.correlate(x, y, products, padding)
  if x.shape[-1] <= _FEW:
    return _sums(x, y)[None, None]
  return _sums(y, x).T[None, None]


def _sums(few: jax.Array, x: jax.Array) -> jax.Array:
  parts = jnp.split(few, few.shape[-1], axis=-1)
  return jnp.stack([(part * x).sum(axis=(0, 1, 2)) for part in parts])


_convolve: Any = plain.differentiable(
  _convolve_once, _correlate, lambda *options: options
)
