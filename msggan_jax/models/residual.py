"""Residual blocks without normalization: R3GAN's, on MSG-GAN's pyramid.

Huang et al., NeurIPS 2024, section 3. MSG-ProGAN's generator and discriminator
build them instead of their own blocks. `to_rgb` and phi stay at every scale.
Unlike R3GAN they keep the equalized learning rate, so that MSG-ProGAN's rates
apply, and their 3x3 convolutions have no groups.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.kernels import downsample, leaky_relu
from msggan_jax.kernels.precision import at_least_float32
from msggan_jax.models.layers import LRELU_GAIN, Conv, Dense
from msggan_jax.models.stddev import BatchMean, MinibatchStddev

BLOCKS = 2  # per scale, as in R3GAN's code


class ResidualBlock(nnx.Module):
  """x + conv(f(conv(f(conv(x))))), kernels 1x1, 3x3, 1x1 (R3GAN).

  By `levels`, the network's number of resolutions, Fixup's initialization keeps
  the variance from growing with the depth.
  """

  def __init__(self, width: int, levels: int, *, conv: Callable[..., Conv]):
    # Three layers, the last of which starts at 0: L^(-1 / (2 * 3 - 2)).
    gain = LRELU_GAIN * (BLOCKS * levels) ** -0.25
    self.conv_0 = conv(width, width, kernel_size=1, gain=gain)
    self.conv_1 = conv(width, width, kernel_size=3, gain=gain)
    self.conv_2 = conv(width, width, kernel_size=1, gain=1.0)
    self.conv_2.kernel[...] = jnp.zeros_like(self.conv_2.kernel[...])

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, width) to the same shape."""
    y = leaky_relu(self.conv_0(x))
    return x + self.conv_2(leaky_relu(self.conv_1(y)))


class Blocks(nnx.Module):
  """The residual blocks of one resolution; arguments as `ResidualBlock`'s."""

  def __init__(self, width: int, levels: int, *, conv: Callable[..., Conv]):
    for i in range(BLOCKS):
      # An nnx.List would change the names of the weights.
      setattr(self, f"block_{i}", ResidualBlock(width, levels, conv=conv))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, width) to the same shape."""
    for i in range(BLOCKS):
      x = getattr(self, f"block_{i}")(x)
    return x


class FirstBlock(nnx.Module):
  """Latent to 4x4 or another base grid: a learned image times a dense layer."""

  def __init__(
    self,
    in_size: int,
    width: int,
    base_grid: tuple[int, int],
    *,
    levels: int,
    conv: functools.partial[Conv],
  ):
    rngs, self.precision = conv.keywords["rngs"], conv.keywords["precision"]
    basis = jax.random.normal(rngs.params(), (*base_grid, width))
    self.basis = nnx.Param(basis)
    self.dense = Dense(in_size, width, gain=1.0, use_bias=False, rngs=rngs)
    self.blocks = Blocks(width, levels, conv=conv)

  def __call__(self, z: jax.Array) -> jax.Array:
    """Map z, (B, in_size), to (B, rows, columns, width)."""
    x = self.basis[...][None] * self.dense(z)[:, None, None, :]
    return self.blocks(self.precision.cast(x))


class Block(nnx.Module):
  """Upsampling and residual blocks."""

  def __init__(
    self,
    in_channels: int,
    width: int,
    *,
    levels: int,
    conv: functools.partial[Conv],
  ):
    self.upsample = conv.keywords["forms"].upsample
    # Before the upsampling, which it commutes with, at a quarter of the cost.
    self.project = _make_projection(in_channels, width, conv)
    self.blocks = Blocks(width, levels, conv=conv)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, in_channels) to (B, 2H, 2W, width)."""
    if self.project is not None:
      x = self.project(x)
    return self.blocks(self.upsample(x))


class DiscriminatorBlock(nnx.Module):
  """Combine, minibatch stddev, residual blocks, average pool.

  Arguments are those of `discriminator.Block`. R3GAN has no stddev. At 4x4 it
  ends in a depthwise convolution of all pixels.
  """

  def __init__(
    self,
    *,
    in_channels: int,
    width: int,
    out_channels: int,
    combine: Callable[[jax.Array, jax.Array], jax.Array] | None,
    has_stddev: bool,
    levels: int,
    last: tuple[int, int] | None,
    conv: Callable[..., Conv],
    last_conv: Callable[..., Conv],
  ):
    self.combine, self.has_stddev = combine, has_stddev
    self.enter = _make_projection(in_channels, width, conv)
    self.blocks = Blocks(width, levels, conv=conv)
    if last:
      self.leave = last_conv(1, width, last, gain=1.0, use_bias=False)
    else:
      self.leave = _make_projection(width, out_channels, conv)
    self.last = last is not None

  def __call__(
    self,
    x: jax.Array,
    image: jax.Array | None,
    *,
    stddev: MinibatchStddev,
    batch_mean: BatchMean,
  ) -> jax.Array:
    """Map (B, H, W, C) to (B, H/2, W/2, out_channels).

    The last block returns (B, width).
    """
    x = x if self.combine is None else self.combine(image, x)
    x = stddev(x, batch_mean) if self.has_stddev else x
    x = x if self.enter is None else self.enter(x)
    x = self.blocks(x)
    if self.last:
      kernel = self.leave.scaled_kernel()[None, :, :, 0]
      return jnp.sum(x.astype(at_least_float32(x)) * kernel, axis=(1, 2))
    x = downsample(x)
    return x if self.leave is None else self.leave(x)


def _make_projection(
  in_channels: int, out_channels: int, conv: Callable[..., Conv]
) -> Conv | None:
  """Return a linear 1x1 convolution; None where the widths agree."""
  if in_channels == out_channels:
    return None
  return conv(
    in_channels, out_channels, kernel_size=1, gain=1.0, use_bias=False
  )
