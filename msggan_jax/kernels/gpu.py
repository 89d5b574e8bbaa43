"""Training on GPUs: plain arrays in fewer passes, by the compiler's count.

1x1 convolutions from or to an image are products and sums of arrays, which XLA
fuses with what comes before and after; cuDNN would read and write the features
in float32. The stddev layer is that of TPUs. Its statistic joins features where
an image does, in one copy; elsewhere it is convolved apart. Derivatives of a
leaky ReLU read signs as bits, and convolutions beside a doubling or a pooling
have the smaller size, with the four pixels in groups of channels.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import Products
from msggan_jax.kernels.tpu import operations, stddev
from msggan_jax.kernels.tpu.folded import Channels

_FEW = 4  # channels of an image


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
  terms = [x * kernel[None, ..., o] for o in range(outputs)]
  zeros = [jnp.zeros((), x.dtype)] * outputs
  # All sums in one pass.
  add = functools.partial(jax.tree.map, jnp.add)
  return jnp.stack(jax.lax.reduce(terms, zeros, add, (3,)), axis=-1)


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


_convolve = plain.differentiable(_convolve_once, _correlate)


def upsample_convolve(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  products: Products,
  then: Callable[[jax.Array], jax.Array],
) -> jax.Array:
  """Upsample, convolve a 3x3 kernel, add a bias, apply `then`.

  The doubled array is not made. Each of the four pixels that a pixel becomes is
  a group of channels until the last write, and has its own kernel.
  """
  b, h, w, _ = x.shape
  outputs = kernel.shape[-1]
  y = _convolve(x, _after_doubling(kernel), products)
  y = then(plain.add_bias(y.reshape(b, h, w, 2, 2, outputs), bias))
  return y.swapaxes(2, 3).reshape(b, 2 * h, 2 * w, outputs)


def convolve_downsample(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, products: Products
) -> jax.Array:
  """Convolve a 3x3 kernel, downsample, add a bias: the transpose, over 4."""
  b, h, w, inputs = x.shape
  x = x.reshape(b, h // 2, 2, w // 2, 2, inputs).swapaxes(2, 3)
  kernel = plain.transposed(_after_doubling(plain.transposed(kernel))) / 4
  y = _convolve(x.reshape(b, h // 2, w // 2, 4 * inputs), kernel, products)
  return plain.add_bias(y, bias)


def _after_doubling(kernel: jax.Array) -> jax.Array:
  """Return the kernel of what every pixel becomes: to (3, 3, I, 4 O)."""
  for axis in range(2):
    left, middle, right = jnp.split(kernel, 3, axis)
    none = jnp.zeros_like(middle)
    pair = [left, middle + right, none], [none, left + middle, right]
    pair = [jnp.concatenate(taps, axis) for taps in pair]
    kernel = jnp.stack(pair, axis=-2)
  return kernel.reshape(*kernel.shape[:3], -1)


def leaky_relu(x: jax.Array) -> jax.Array:
  """Apply a leaky ReLU; its derivatives read the signs as bits, not x."""
  return plain.leaky_relu(x) if x.shape[-1] % 8 else _activate(x)[0]


def leaky_relu_and_downsample(x: jax.Array) -> jax.Array:
  """Apply a leaky ReLU, then downsample, with signs as bits, too."""
  return _activate_and_pool(x)[0]


# Both return the results and bytes: the signs of eight channels or 2x2 pixels.
@jax.custom_vjp
def _activate(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  positive = x >= 0
  bits = positive.reshape(*x.shape[:-1], -1, 8).astype(jnp.uint8)
  places = jnp.arange(8, dtype=bits.dtype)[*[None] * x.ndim]
  signs = (bits << places).sum(axis=-1, dtype=bits.dtype)
  return _sloped(x, positive), signs


@jax.custom_vjp
def _activate_and_pool(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  positive = [part >= 0 for part in _quarters(x)]
  signs = sum(bit.astype(jnp.uint8) << i for i, bit in enumerate(positive))
  # Written in one pass, and the result for several readers.
  return jax.lax.optimization_barrier((_pooled(x, positive), signs))


# With given signs all are linear: the first is its own transpose, the second
# that of the third.
@jax.custom_vjp
def _multiply(x: jax.Array, signs: jax.Array) -> jax.Array:
  places = jnp.arange(8, dtype=signs.dtype)[*[None] * x.ndim]
  bits = signs[..., None] >> places & 1
  return _sloped(x, bits.reshape(x.shape) > 0)


@jax.custom_vjp
def _pool(x: jax.Array, signs: jax.Array) -> jax.Array:
  return _pooled(x, [signs >> i & 1 > 0 for i in range(4)])


@jax.custom_vjp
def _spread(y: jax.Array, signs: jax.Array) -> jax.Array:
  b, h, w, c = y.shape
  y, signs = (z[:, :, None, :, None] for z in (y, signs))
  places = jnp.arange(4, dtype=signs.dtype).reshape(1, 1, 2, 1, 2, 1)
  return _sloped(y, signs >> places & 1 > 0).reshape(b, 2 * h, 2 * w, c) / 4


def _quarters(x: jax.Array) -> list[jax.Array]:
  return [x[:, i::2, j::2] for i, j in itertools.product(range(2), repeat=2)]


def _pooled(x: jax.Array, positive: list[jax.Array]) -> jax.Array:
  return sum(map(_sloped, _quarters(x), positive)) / 4


def _sloped(x: jax.Array, positive: jax.Array) -> jax.Array:
  return jnp.where(positive, x, plain.LRELU_SLOPE * x)


def _derive_by_signs(activation: Any, derivative: Any) -> None:
  def forward(x):
    y, signs = activation(x)
    # A penalty may depend on the signs alone. Integer operations have no
    # derivative, so it has no products of zeros.
    return (y, signs), signs | 0

  activation.defvjp(
    forward, lambda signs, cotangents: (derivative(cotangents[0], signs),)
  )


def _transpose(linear: Any, transposed: Any) -> None:
  linear.defvjp(
    lambda x, signs: (linear(x, signs), signs),
    lambda signs, cotangent: (transposed(cotangent, signs), None),
  )


_derive_by_signs(_activate, _multiply)
_derive_by_signs(_activate_and_pool, _spread)
_transpose(_multiply, _multiply)
_transpose(_pool, _spread)
_transpose(_spread, _pool)
