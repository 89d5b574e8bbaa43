"""Layers of ProGAN and StyleGAN that both networks use."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import folded, folded_convolution
from msggan_jax.models.precision import at_least_float32, matmul

LRELU_GAIN = math.sqrt(2.0)  # preserves the variance through a leaky ReLU
LRELU_SLOPE = 0.2
NORM_EPSILON = 1e-8


class State(nnx.Variable):
  """An array of a network that is not trained."""


def leaky_relu(x: jax.Array) -> jax.Array:
  """Apply a leaky ReLU of slope 0.2 (paper, Tables 6 and 7)."""
  return jax.nn.leaky_relu(x, LRELU_SLOPE)


def pixel_norm(x: jax.Array) -> jax.Array:
  """Normalize each pixel's feature vector to unit RMS (ProGAN, section 4.2).

  Args:
    x: (..., C).

  Returns:
    x / sqrt(mean over C of x^2 + 1e-8), same shape and dtype.
  """
  x32 = x.astype(at_least_float32(x))
  mean_square = jnp.square(x32).mean(axis=-1, keepdims=True)
  return (x32 * jax.lax.rsqrt(mean_square + NORM_EPSILON)).astype(x.dtype)


def leaky_relu_and_pixel_norm(x: jax.Array, fold: int) -> jax.Array:
  """Apply both to x, (B, H, positions, C f), of any shift."""
  if fold == 1:
    return pixel_norm(leaky_relu(x))
  return folded.activate_and_normalize(x, fold, LRELU_SLOPE, NORM_EPSILON)


def instance_norm(x: jax.Array) -> jax.Array:
  """Normalize each channel of each image (StyleGAN, eq. 1).

  Args:
    x: (B, H, W, C).

  Returns:
    (x - mean) / sqrt(variance + 1e-8) over H and W, same shape and dtype.
  """
  f = folded.fold_of(x)

  def image_mean(x):
    mean = folded.pixel_mean(x.mean(axis=(1, 2), keepdims=True), f)
    return folded.per_channel(mean, f)

  x32 = x.astype(at_least_float32(x))
  x32 -= image_mean(x32)
  variance = image_mean(jnp.square(x32))
  return (x32 * jax.lax.rsqrt(variance + NORM_EPSILON)).astype(x.dtype)


def blur(x: jax.Array, fold: int = 1, shift: int = 0) -> jax.Array:
  """Blur with [1, 2, 1] / 4 along H and W, zero-padded (StyleGAN, app. C).

  As sums of shifted images, derivatives of any order are cheap.

  Args:
    x: (B, H, W, C).
    fold: Its fold.
    shift: Its shift, see `folded`.

  Returns:
    Same shape and dtype, not shifted.
  """
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
  x = (x[:, :h] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
  if fold > 1:
    return folded_convolution.blur_rows(x, fold, shift)
  x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
  return (x[:, :, :w] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4


def normalize_latents(z: jax.Array) -> jax.Array:
  """Project latents onto the hypersphere of radius sqrt(latent_size).

  Args:
    z: (B, latent_size), normally distributed.

  Returns:
    z sqrt(latent_size) / ||z||, same shape.
  """
  norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
  return z * (math.sqrt(z.shape[-1]) / norm)


class Layer(nnx.Module):
  """A kernel and a bias; base class of `Conv` and `Dense`.

  With equalized learning rate (ProGAN, section 4.1), the kernel is drawn from
  N(0, 1) and scaled by gain / sqrt(fan_in) at run time. All layers then learn
  at the same speed. Without it, kernel and bias have PyTorch's initialization,
  uniform within 1 / sqrt(fan_in), and no scale (msg-gan-v1).

  Args:
    shape: Shape of the kernel.
    fan_in: Inputs per output.
    out_channels: C of the output.
    gain: sqrt(2) before a leaky ReLU, 1 for a linear layer.
    use_bias: Whether the layer has a bias.
    equalized: Whether the learning rate is equalized.
    lr_multiplier: Factor on an equalized layer's learning rate (StyleGAN,
      appendix C).
    spectral_norm: Whether to divide the kernel, as a matrix from inputs to
      channels, by its largest singular value (Miyato et al. 2018, eq. 8). The
      gain then has no effect.
    rngs: Source of the initial weights.
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

  def add_bias(self, y: jax.Array, fold: int = 1) -> jax.Array:
    """Add the bias, if any, to y, (..., out_channels), of a fold."""
    if self.bias is None:
      return y
    bias = folded.per_channel(self.bias[...] * self.bias_scale, fold)
    # The bias' gradient is a sum over all pixels, too long for bfloat16. XLA
    # fuses the casts, so that y stays bfloat16 in memory.
    y32 = y.astype(at_least_float32(y))
    return (y32 + jnp.expand_dims(bias, range(y.ndim - 1))).astype(y.dtype)

  def _matrix(self) -> jax.Array:
    # The channels are the kernel's fastest index, even from latent to 4x4.
    return self.kernel[...].reshape(-1, self.u.shape[0])


class Dense(Layer):
  """Fully connected layer, with the options of `Layer`."""

  def __init__(self, in_features: int, out_features: int, **options):
    super().__init__(
      (in_features, out_features),
      fan_in=in_features,
      out_channels=out_features,
      **options,
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map x, (B, in_features), to (B, out_features), in float32 or float64."""
    x = x.astype(at_least_float32(x))
    return self.add_bias(matmul(x, self.scaled_kernel()))


def initial_bias(
  size: int, fan_in: int, equalized: bool, rngs: nnx.Rngs
) -> jax.Array:
  """Return zeros; without equalized learning rate, draw as PyTorch does."""
  return jnp.zeros((size,)) if equalized else _uniform((size,), fan_in, rngs)


def rematerialized(f: Callable, resolution: int, remat_from: int) -> Callable:
  """Make a block recompute its activations in the backward pass.

  Args:
    f: The block, a function of arrays.
    resolution: Resolution of the block.
    remat_from: Lowest resolution that recomputes; 0: none.

  Returns:
    The same function. If it recomputes, only its arguments stay in memory.
  """
  if remat_from and resolution >= remat_from:
    return jax.checkpoint(f)
  return f


def level_scope(resolution: int):
  """Name a level in compiled programs and profiles, such as level_64."""
  return jax.named_scope(f"level_{resolution}")


def num_channels(resolution: int, base_channels: int, max_channels: int) -> int:
  """Return the width of the layers at a resolution (paper, Tables 6 and 7)."""
  return max(1, min(base_channels // resolution, max_channels))


def _uniform(shape, fan_in: int, rngs: nnx.Rngs) -> jax.Array:
  bound = 1 / math.sqrt(fan_in)
  return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)


def _unit(x: jax.Array) -> jax.Array:
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
