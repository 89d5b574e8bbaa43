"""Building blocks of the networks: what MSG-GAN takes from ProGAN."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

LRELU_GAIN = math.sqrt(2.0)  # keeps the variance through a leaky ReLU
PIXEL_NORM_EPSILON = 1e-8
STDDEV_EPSILON = 1e-8


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
    jnp.square(x.astype(_at_least_float32(x))), axis=-1, keepdims=True
  )
  scale = jax.lax.rsqrt(mean_square + PIXEL_NORM_EPSILON)
  return x * scale.astype(x.dtype)


def normalize_latents(z: jax.Array) -> jax.Array:
  """Put latents on the hypersphere of radius sqrt(latent_size).

  Args:
    z: (B, latent_size), normally distributed.

  Returns:
    z sqrt(latent_size) / ||z||, same shape.
  """
  norm = jnp.linalg.norm(z, axis=-1, keepdims=True)
  return z * (math.sqrt(z.shape[-1]) / norm)


def minibatch_stddev(
  x: jax.Array, group_size: int, grouping: str = "contiguous"
) -> jax.Array:
  """Append the mean standard deviation of each group as one more channel.

  ProGAN, section 3; the paper puts it into every block of the discriminator
  (section 3.1, Table 7). Contiguous groups never leave a device.

  Args:
    x: Activations, (B, H, W, C).
    group_size: Examples that share one statistic; at most B are taken.
    grouping: "contiguous" (neighbours share a group) or "strided" (examples
      i, i + B/g, i + 2B/g, ... do, as in the official TensorFlow code).

  Returns:
    (B, H, W, C + 1); the last channel is constant within a group.

  Raises:
    ValueError: If the group size does not divide B.
  """
  b, h, w, c = x.shape
  group_size = min(group_size, b)
  if b % group_size:
    raise ValueError(
      f"minibatch stddev: groups of {group_size} do not divide a batch of {b}"
    )
  # (B, H, W, C) -> (groups, members, H, W, C)
  x32 = x.astype(_at_least_float32(x))
  if grouping == "contiguous":
    groups = x32.reshape(b // group_size, group_size, h, w, c)
  else:
    groups = x32.reshape(group_size, b // group_size, h, w, c).swapaxes(0, 1)
  variance = jnp.var(groups, axis=1, keepdims=True)
  stddev = jnp.sqrt(variance + STDDEV_EPSILON)
  statistic = stddev.mean(axis=(2, 3, 4), keepdims=True)  # (groups, 1, 1, 1, 1)
  statistic = jnp.broadcast_to(
    statistic, (b // group_size, group_size, h, w, 1)
  )
  if grouping == "strided":
    statistic = statistic.swapaxes(0, 1)
  statistic = statistic.reshape(b, h, w, 1)
  return jnp.concatenate([x, statistic.astype(x.dtype)], axis=-1)


class Conv(nnx.Module):
  """Convolution of stride 1 with equalized learning rate (ProGAN, 4.1).

  The kernel is drawn from N(0, 1) and multiplied by gain / sqrt(fan_in) at
  run time, so that every layer learns at the same speed.
  """

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    gain: float = LRELU_GAIN,
    use_bias: bool = True,
    padding: str = "SAME",
    dtype: jnp.dtype | None = None,
    rngs: nnx.Rngs,
  ):
    """Create the layer.

    Args:
      in_channels: C of the input.
      out_channels: C of the output.
      kernel_size: Side of the kernel, in pixels.
      gain: sqrt(2) before a leaky ReLU, 1 for a linear layer.
      use_bias: Whether a bias is added.
      padding: "SAME" (zeros) or "VALID".
      dtype: Type of the computation; None: that of the input.
      rngs: Source of the initial kernel.
    """
    shape = (kernel_size, kernel_size, in_channels, out_channels)
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
    self.bias = nnx.Param(jnp.zeros((out_channels,))) if use_bias else None
    self.scale = gain / math.sqrt(kernel_size * kernel_size * in_channels)
    self.padding = padding
    self.dtype = dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolve x, (B, H, W, in_channels)."""
    dtype = self.dtype or x.dtype
    y = jax.lax.conv_general_dilated(
      x.astype(dtype),
      (self.kernel[...] * self.scale).astype(dtype),
      window_strides=(1, 1),
      padding=self.padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y if self.bias is None else y + self.bias[...].astype(dtype)[None, None, None]


class Dense(nnx.Module):
  """Matrix product with equalized learning rate."""

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    gain: float = LRELU_GAIN,
    use_bias: bool = True,
    rngs: nnx.Rngs,
  ):
    """Create the layer; the arguments mean what they mean in `Conv`."""
    shape = (in_features, out_features)
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
    self.bias = nnx.Param(jnp.zeros((out_features,))) if use_bias else None
    self.scale = gain / math.sqrt(in_features)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Multiply x, (B, in_features); always in float32 or better."""
    x = x.astype(_at_least_float32(x))
    y = x @ (self.kernel[...] * self.scale)
    return y if self.bias is None else y + self.bias[...][None]


def num_channels(resolution: int, base_channels: int, max_channels: int) -> int:
  """Return the width of the layers at a resolution (paper, Tables 6 and 7)."""
  return max(1, min(base_channels // resolution, max_channels))


def resolutions_up_to(resolution: int) -> tuple[int, ...]:
  """Return 4, 8, ... up to and with `resolution`."""
  return tuple(2**i for i in range(2, resolution.bit_length()))


def _at_least_float32(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)
