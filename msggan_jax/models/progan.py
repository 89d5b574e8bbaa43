"""MSG-ProGAN's generator (paper, section 3.1 and Table 6)."""

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.images import Pyramid, upsample
from msggan_jax.models.layers import (
  Conv,
  Dense,
  leaky_relu,
  num_channels,
  pixel_norm,
  resolutions_up_to,
)


class Generator(nnx.Module):
  """Turns a latent into one image per connected scale."""

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    latent_size: int,
    base_channels: int,
    max_channels: int,
    dtype: jnp.dtype | None = None,
    rngs: nnx.Rngs,
  ):
    """Create the generator.

    Args:
      resolution: Side of the largest image, in pixels; a power of two >= 4.
      scales: Resolutions that get an image, low to high (paper, Table 4).
      channels: Channels of the images.
      latent_size: Length of z.
      base_channels: Width at resolution r is base_channels / r, ...
      max_channels: ... but at most this.
      dtype: Type of the activations; None: that of the latents.
      rngs: Source of the initial weights.
    """
    self.resolutions = resolutions_up_to(resolution)
    self.scales = scales
    self.latent_size = latent_size
    in_channels = latent_size
    for r in self.resolutions:
      width = num_channels(r, base_channels, max_channels)
      block = FirstBlock if r == 4 else Block
      block = block(in_channels, width, dtype=dtype, rngs=rngs)
      setattr(self, f"block_{r}x{r}", block)
      if r in scales:
        to_rgb = Conv(width, channels, 1, gain=1.0, rngs=rngs)
        setattr(self, f"to_rgb_{r}x{r}", to_rgb)
      in_channels = width

  def __call__(self, z: jax.Array) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents on the hypersphere, (B, latent_size).

    Returns:
      Images per scale, low to high, (B, r, r, channels), linear: about
      [-1, 1], but not bounded.
    """
    x = z
    pyramid = []
    for r in self.resolutions:
      x = getattr(self, f"block_{r}x{r}")(x)
      if r in self.scales:
        # Images leave the network in float32 whatever the activations are.
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        pyramid.append(getattr(self, f"to_rgb_{r}x{r}")(x32))
    return tuple(pyramid)


class FirstBlock(nnx.Module):
  """Latent to 4x4 (Table 6, block 1)."""

  def __init__(self, latent_size: int, width: int, *, dtype, rngs: nnx.Rngs):
    """Create the block; `width` is the number of channels at 4x4."""
    # A 4x4 transposed convolution of a 1x1 input is a dense layer whose bias
    # is shared by the 16 places.
    self.dense = Dense(latent_size, 4 * 4 * width, use_bias=False, rngs=rngs)
    self.bias = nnx.Param(jnp.zeros((width,)))
    self.conv = Conv(width, width, 3, dtype=dtype, rngs=rngs)

  def __call__(self, z: jax.Array) -> jax.Array:
    """Map z, (B, latent_size), to (B, 4, 4, width)."""
    x = self.dense(z).reshape(z.shape[0], 4, 4, -1)
    x = leaky_relu(x + self.bias[...][None, None, None])
    return pixel_norm(leaky_relu(self.conv(x)))


class Block(nnx.Module):
  """Doubling of the resolution (Table 6, blocks 2 to 9)."""

  def __init__(
    self, in_channels: int, out_channels: int, *, dtype, rngs: nnx.Rngs
  ):
    """Create the block; the first convolution changes the width."""
    self.conv_0 = Conv(in_channels, out_channels, 3, dtype=dtype, rngs=rngs)
    self.conv_1 = Conv(out_channels, out_channels, 3, dtype=dtype, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, in_channels) to (B, 2H, 2W, out_channels)."""
    x = pixel_norm(leaky_relu(self.conv_0(upsample(x))))
    return pixel_norm(leaky_relu(self.conv_1(x)))
