"""Layers that both networks use."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.kernels import BY_PLATFORM, Kernels, plain
from msggan_jax.kernels.precision import (
  FLOAT32,
  Precision,
  at_least_float32,
  matmul,
)

LRELU_GAIN = math.sqrt(2.0)  # preserves the variance through a leaky ReLU


class State(nnx.Variable):
  """An array of a network that is not trained."""


def normalize_latents(z: jax.Array) -> jax.Array:
  """Project latents, (B, latent_size), onto a sphere.

  Its radius is sqrt(latent_size).
  """
  norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
  return z * (math.sqrt(z.shape[-1]) / norm)


class Layer(nnx.Module):
  """A kernel and a bias; base class of `Conv` and `Dense`.

  With equalized learning rate (ProGAN, section 4.1), the kernel is drawn from
  N(0, 1) and scaled by gain / sqrt(fan_in) at run time. All layers then learn
  at the same speed. Without it, kernel and bias have PyTorch's initialization,
  uniform within 1 / sqrt(fan_in), and no scale (msg-gan-v1).

  `fan_in` is the number of inputs of each result. The gain is sqrt(2) before a
  leaky ReLU, 1 for a linear layer. `lr_multiplier` is a factor on an equalized
  layer's learning rate (StyleGAN, appendix C). `spectral_norm` divides the
  kernel, as a matrix from inputs to channels, by its largest singular value
  (Miyato et al. 2018, eq. 8); the gain then has no effect.
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    *,
    fan_in: int | None = None,
    out_channels: int | None = None,
    gain: float = LRELU_GAIN,
    use_bias: bool = True,
    equalized: bool = True,
    lr_multiplier: float = 1.0,
    spectral_norm: bool = False,
    rngs: nnx.Rngs,
  ):
    fan_in = fan_in or math.prod(shape[:-1])
    out_channels = out_channels or shape[-1]
    self.scale = gain * lr_multiplier / math.sqrt(fan_in) if equalized else 1.0
    self.bias_scale = lr_multiplier if equalized else 1.0
    if equalized:
      kernel = jax.random.normal(rngs.params(), shape) / lr_multiplier
    else:
      kernel = _uniform(shape, fan_in, rngs)
    self.kernel = nnx.Param(kernel)
    if use_bias:
      bias = initial_bias(out_channels, fan_in, equalized, rngs)
      self.bias = nnx.Param(bias)
    else:
      self.bias = None
    self.spectral_norm = spectral_norm
    if spectral_norm:
      u = jax.random.normal(rngs.params(), (out_channels,))
      self.u = State(_unit(u))
      self.v = State(jnp.zeros((math.prod(shape) // out_channels,)))
      self.power_iterate()

  def power_iterate(self) -> None:
    """Run a power iteration on u and v (Miyato et al. 2018, algorithm 1).

    Run it once per update of the network, outside of any derivative: gradients
    must reach the kernel only through `scaled_kernel`.
    """
    if self.spectral_norm:
      matrix = self._matrix()
      v = _unit(matmul(matrix, self.u[...]))
      self.v[...] = v
      self.u[...] = _unit(matmul(v, matrix))

  def scaled_kernel(self) -> jax.Array:
    """Return the kernel after run-time scale or spectral norm."""
    if self.spectral_norm:
      sigma = matmul(matmul(self.v[...], self._matrix()), self.u[...])
      return self.kernel[...] / sigma
    return self.kernel[...] * self.scale

  def scaled_bias(self) -> jax.Array | None:
    """Return the bias after run-time scale; None: the layer has none."""
    return None if self.bias is None else self.bias[...] * self.bias_scale

  def _matrix(self) -> jax.Array:
    # The channels are the kernel's fastest index, even from latent to 4x4.
    return self.kernel[...].reshape(-1, self.u.shape[0])


class Conv(Layer):
  """Convolution of stride 1, of features of any form, see `kernels`.

  `before_window` says that a 3x3 convolution reads the result next. `precision`
  is that of input and result and, of a 3x3 kernel, of the products. Further
  options are those of `Layer`.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    padding: str = "SAME",
    before_window: bool = False,
    precision: Precision = FLOAT32,
    forms: Kernels = BY_PLATFORM,
    **options,
  ):
    square = isinstance(kernel_size, int)
    height, width = (kernel_size,) * 2 if square else kernel_size
    super().__init__((height, width, in_channels, out_channels), **options)
    self.padding, self.before_window = padding, before_window
    self.dtype = precision.dtype
    self.products = precision.products_for(kernel_size)
    self.forms = forms

  def __call__(self, x: Any) -> Any:
    """Convolve x, (B, H, W, in_channels)."""
    x, kernel, bias, products = self._operands(x)
    if self.padding == "VALID":
      y = plain.convolve(x, kernel, products, self.padding)
      return plain.add_bias(y, bias)
    return self.forms.convolve(x, kernel, bias, products, self.before_window)

  def after_upsampling(
    self, x: Any, then: Callable[[Any], Any] = lambda y: y
  ) -> Any:
    """Upsample x, (B, H, W, in_channels), convolve, apply `then`.

    `then` is a function of every pixel's channels.
    """
    return self.forms.upsample_convolve(*self._operands(x), then)

  def before_downsampling(self, x: Any) -> Any:
    """Convolve x, (B, H, W, in_channels), then downsample."""
    return self.forms.convolve_downsample(*self._operands(x))

  def _operands(self, x: Any) -> tuple:
    dtype = self.dtype or self.kernel.dtype
    kernel = self.scaled_kernel().astype(dtype)
    return x.astype(dtype), kernel, self.scaled_bias(), self.products


class Dense(Layer):
  """Fully connected layer, with the options of `Layer`."""

  def __init__(self, in_features: int, out_features: int, **options):
    super().__init__((in_features, out_features), **options)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map x, (B, in_features), to (B, out_features), in float32 or float64."""
    x = x.astype(at_least_float32(x))
    y = matmul(x, self.scaled_kernel())
    return plain.add_bias(y, self.scaled_bias())


def initial_bias(
  size: int, fan_in: int, equalized: bool, rngs: nnx.Rngs
) -> jax.Array:
  """Return zeros; without equalized learning rate, draw as PyTorch does."""
  return jnp.zeros((size,)) if equalized else _uniform((size,), fan_in, rngs)


def _uniform(shape, fan_in: int, rngs: nnx.Rngs) -> jax.Array:
  bound = 1 / math.sqrt(fan_in)
  return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)


def _unit(x: jax.Array) -> jax.Array:
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
