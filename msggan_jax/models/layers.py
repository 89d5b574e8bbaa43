"""Building blocks of the networks: what MSG-GAN takes from its ancestors."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models.convolution import (
  convolve,
  convolve_downsample,
  convolve_plain,
  upsample_convolve,
)

LRELU_GAIN = math.sqrt(2.0)  # keeps the variance through a leaky ReLU
NORM_EPSILON = 1e-8


class State(nnx.Variable):
  """An array that a network carries along but does not learn."""


def leaky_relu(x: jax.Array) -> jax.Array:
  """Apply the leaky ReLU of slope 0.2 that every layer uses."""
  return jax.nn.leaky_relu(x, 0.2)


def pixel_norm(x: jax.Array) -> jax.Array:
  """Scale every pixel's feature vector to unit RMS (ProGAN, section 4.2).

  Args:
    x: (..., C).

  Returns:
    x / sqrt(mean over C of x^2 + 1e-8), same shape and dtype.
  """
  mean_square = jnp.mean(
    jnp.square(x.astype(at_least_float32(x))), axis=-1, keepdims=True
  )
  scale = jax.lax.rsqrt(mean_square + NORM_EPSILON)
  return x * scale.astype(x.dtype)


def instance_norm(x: jax.Array) -> jax.Array:
  """Give every channel of every image mean 0 and variance 1 (StyleGAN, 2).

  Args:
    x: (B, H, W, C).

  Returns:
    (x - mean) / sqrt(variance + 1e-8) over H and W, same shape and dtype.
  """
  x32 = x.astype(at_least_float32(x))
  x32 -= x32.mean(axis=(1, 2), keepdims=True)
  variance = jnp.mean(jnp.square(x32), axis=(1, 2), keepdims=True)
  return (x32 * jax.lax.rsqrt(variance + NORM_EPSILON)).astype(x.dtype)


def blur(x: jax.Array) -> jax.Array:
  """Convolve with [1, 2, 1] / 4 along H and W, zeros outside (StyleGAN, 2).

  Written as sums of shifted images, which any derivative passes cheaply.

  Args:
    x: (B, H, W, C).
  """
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
  x = (x[:, :h] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
  x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
  return (x[:, :, :w] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4


def normalize_latents(z: jax.Array) -> jax.Array:
  """Put latents on the hypersphere of radius sqrt(latent_size).

  Args:
    z: (B, latent_size), normally distributed.

  Returns:
    z sqrt(latent_size) / ||z||, same shape.
  """
  norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
  return z * (math.sqrt(z.shape[-1]) / norm)


class Layer(nnx.Module):
  """A kernel as it is used, and a bias: what the layers below share.

  With equalized learning rate (ProGAN, section 4.1) the kernel is drawn from
  N(0, 1) and multiplied by gain / sqrt(fan_in) at run time, so that every layer
  learns at the same speed. Without it, kernel and bias start as PyTorch's do
  (msg-gan-v1), uniform within 1 / sqrt(fan_in), and are used as they are.
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    *,
    fan_in: int,
    out_channels: int,
    gain: float = LRELU_GAIN,
    use_bias: bool = True,
    equalized: bool = True,
    lr_multiplier: float = 1.0,
    spectral_norm: bool = False,
    rngs: nnx.Rngs,
  ):
    """Create kernel and bias.

    Args:
      shape: Of the kernel.
      fan_in: Inputs that an output is summed of.
      out_channels: C of the output.
      gain: sqrt(2) before a leaky ReLU, 1 for a linear layer.
      use_bias: Whether a bias is added.
      equalized: Whether the learning rate is equalized.
      lr_multiplier: Slows an equalized layer down (StyleGAN, appendix C).
      spectral_norm: Whether the kernel is divided by its largest singular
        value, as the matrix from all inputs to the channels (Miyato et al.
        2018); an equalized layer's gain then has no effect.
      rngs: Source of the initial weights.
    """
    self.scale = gain * lr_multiplier / math.sqrt(fan_in) if equalized else 1.0
    self.bias_scale = lr_multiplier if equalized else 1.0
    if equalized:
      kernel = jax.random.normal(rngs.params(), shape) / lr_multiplier
    else:
      kernel = _uniform(shape, fan_in, rngs)
    self.kernel = nnx.Param(kernel)
    self.bias = (
      nnx.Param(initial_bias(out_channels, fan_in, equalized, rngs))
      if use_bias
      else None
    )
    self.spectral_norm = spectral_norm
    if spectral_norm:
      u = jax.random.normal(rngs.params(), (out_channels,))
      self.u = State(_unit(u))
      self.v = State(jnp.zeros((math.prod(shape) // out_channels,)))
      self.power_iterate()

  def power_iterate(self) -> None:
    """Move u and v towards the singular vectors of the largest value.

    The step does this once per update of the network and outside of any
    derivative; where it is called, gradients pass the kernel only.
    """
    if self.spectral_norm:
      matrix = self._matrix()
      v = _unit(matrix @ self.u[...])
      self.v[...] = v
      self.u[...] = _unit(v @ matrix)

  def scaled_kernel(self) -> jax.Array:
    """Return the kernel as it is multiplied with."""
    if self.spectral_norm:
      sigma = self.v[...] @ self._matrix() @ self.u[...]
      return self.kernel[...] / sigma
    return self.kernel[...] * self.scale

  def add_bias(self, y: jax.Array) -> jax.Array:
    """Add the bias, if there is one, to y, (..., out_channels)."""
    if self.bias is None:
      return y
    bias = (self.bias[...] * self.bias_scale).astype(y.dtype)
    return y + jnp.expand_dims(bias, range(y.ndim - 1))

  def _matrix(self) -> jax.Array:
    # Channels are the kernel's last axis, or (latent to 4x4) its fastest.
    return self.kernel[...].reshape(-1, self.u.shape[0])


class Conv(Layer):
  """Convolution of stride 1."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    padding: str = "SAME",
    dtype: jnp.dtype | None = None,
    **options,
  ):
    """Create the layer.

    Args:
      in_channels: C of the input.
      out_channels: C of the output.
      kernel_size: Side of the kernel, in pixels.
      padding: "SAME" (zeros) or "VALID".
      dtype: Type of the computation; None: that of the kernel.
      **options: Of `Layer`.
    """
    super().__init__(
      (kernel_size, kernel_size, in_channels, out_channels),
      fan_in=kernel_size * kernel_size * in_channels,
      out_channels=out_channels,
      **options,
    )
    self.padding = padding
    self.dtype = dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolve x, (B, H, W, in_channels)."""
    if self.padding == "SAME":
      return self.add_bias(convolve(*self._operands(x)))
    return self.add_bias(convolve_plain(*self._operands(x), self.padding))

  def after_upsampling(self, x: jax.Array) -> jax.Array:
    """Double every pixel of x, (B, H, W, in_channels), then convolve."""
    return self.add_bias(upsample_convolve(*self._operands(x)))

  def before_downsampling(self, x: jax.Array) -> jax.Array:
    """Convolve x, (B, H, W, in_channels), then average 2x2 pixels."""
    return self.add_bias(convolve_downsample(*self._operands(x)))

  def _operands(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = self.dtype or self.kernel.dtype
    return x.astype(dtype), self.scaled_kernel().astype(dtype)


class Dense(Layer):
  """Matrix product."""

  def __init__(self, in_features: int, out_features: int, **options):
    """Create the layer; `options` are those of `Layer`."""
    super().__init__(
      (in_features, out_features),
      fan_in=in_features,
      out_channels=out_features,
      **options,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Multiply x, (B, in_features); always in float32 or better."""
    x = x.astype(at_least_float32(x))
    return self.add_bias(x @ self.scaled_kernel())


def initial_bias(
  size: int, fan_in: int, equalized: bool, rngs: nnx.Rngs
) -> jax.Array:
  """Return zeros, or without equalized learning rate PyTorch's draw."""
  return jnp.zeros((size,)) if equalized else _uniform((size,), fan_in, rngs)


def rematerialized(f: Callable, resolution: int, remat_from: int) -> Callable:
  """Let a block compute its activations again for the derivatives.

  Args:
    f: The block's call, of arrays alone.
    resolution: The block's.
    remat_from: Blocks of this resolution and above are concerned; 0: none.

  Returns:
    The same function; nothing but its arguments is kept for its derivatives.
  """
  if remat_from and resolution >= remat_from:
    return jax.checkpoint(f)
  return f


def num_channels(resolution: int, base_channels: int, max_channels: int) -> int:
  """Return the width of the layers at a resolution (paper, Tables 6 and 7)."""
  return max(1, min(base_channels // resolution, max_channels))


def resolutions_up_to(resolution: int) -> tuple[int, ...]:
  """Return 4, 8, ... up to and with `resolution`."""
  return tuple(2**i for i in range(2, resolution.bit_length()))


def at_least_float32(x: jax.Array) -> jnp.dtype:
  """Return float64 for float64, else float32."""
  return x.dtype if x.dtype == jnp.float64 else jnp.dtype(jnp.float32)


def _uniform(shape, fan_in: int, rngs: nnx.Rngs) -> jax.Array:
  bound = 1 / math.sqrt(fan_in)
  return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)


def _unit(x: jax.Array) -> jax.Array:
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
