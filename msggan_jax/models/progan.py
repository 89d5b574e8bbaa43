"""MSG-ProGAN's generator (paper, section 3.1 and Table 6)."""

import functools
from collections.abc import Callable

import jax
from flax import nnx
from ml_collections import FrozenConfigDict

from msggan_jax.kernels import Kernels, leaky_relu, leaky_relu_and_pixel_norm
from msggan_jax.kernels.precision import at_least_float32, matmul
from msggan_jax.models import base_grid, residual
from msggan_jax.models.layers import (
  Conv,
  Layer,
  initial_bias,
  normalize_latents,
)
from msggan_jax.models.multi_scale import MultiScaleGenerator
from msggan_jax.models.pyramid import Pyramid

_OF_DENSE = ("equalized", "spectral_norm", "rngs")  # options of any layer


class Generator(MultiScaleGenerator):
  """Maps a latent to one image per connected scale."""

  def __init__(self, config: FrozenConfigDict, forms: Kernels, rngs: nnx.Rngs):
    super().__init__(config, forms, rngs)
    conv = functools.partial(
      Conv, precision=self.precision, forms=forms, rngs=rngs
    )
    if config.model == "residual":
      make_first, make_next = residual.FirstBlock, residual.Block
      options = {"levels": len(self.resolutions), "conv": conv}
    else:
      make_first, make_next = FirstBlock, Block
      conv = functools.partial(
        conv,
        kernel_size=3,
        equalized=config.equalized,
        spectral_norm=config.spectral_norm,
      )
      options = {"pixel_norm": config.pixel_norm, "conv": conv}
    grid = base_grid.parse(config.base_grid)
    in_channels = self.input_size
    for r in self.resolutions:
      width = self.width(r)
      if r == 4:
        block = make_first(in_channels, width, grid, **options)
      else:
        block = make_next(in_channels, width, **options)
      self.set_level(r, block, rngs)
      in_channels = width

  def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents, (B, latent_size); on the hypersphere if `normalize_latents`.
      labels: Class indices, (B,), if conditional.

    Returns:
      Images, low to high, (B, r, r, channels), about [-1, 1] or beyond.
    """
    return self.run_all(self.join(z, labels))

  def join(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    """Return the first block's input, (B, input_size)."""
    x = super().join(z, labels)
    if self.label_embedding is not None and self.config.normalize_latents:
      x = normalize_latents(x)
    return x


class FirstBlock(nnx.Module):
  """Latent to 4x4, or to another base grid (paper, Table 6, block 1)."""

  def __init__(
    self,
    latent_size: int,
    width: int,
    base_grid: tuple[int, int],
    *,
    pixel_norm: bool,
    conv: functools.partial[Conv],
  ):
    self.base_grid = base_grid
    places = base_grid[0] * base_grid[1]
    options = {key: conv.keywords[key] for key in _OF_DENSE}
    # A 4x4 transposed convolution of a 1x1 input is a dense layer with one bias
    # for all 16 pixels. PyTorch's fan_in is that of the forward convolution.
    fan_in = latent_size if options["equalized"] else places * width
    self.dense = Layer(
      (latent_size, places * width),
      fan_in=fan_in,
      out_channels=width,
      use_bias=False,
      **options,
    )
    bias = initial_bias(width, fan_in, options["equalized"], options["rngs"])
    self.bias = nnx.Param(bias)
    self.conv = conv(width, width)
    self.pixel_norm = pixel_norm

  def __call__(self, z: jax.Array) -> jax.Array:
    """Map z, (B, latent_size), to (B, rows, columns, width)."""
    z = z.astype(at_least_float32(z))
    x = matmul(z, self.dense.scaled_kernel())
    x = x.reshape(z.shape[0], *self.base_grid, -1)
    x = leaky_relu(x + self.bias[...][None, None, None])
    return _activate(self.conv(x), self.pixel_norm)


class Block(nnx.Module):
  """Upsampling and two convolutions (paper, Table 6, blocks 2 to 9)."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    *,
    pixel_norm: bool,
    conv: Callable[..., Conv],
  ):
    self.conv_0 = conv(in_channels, out_channels)
    self.conv_1 = conv(out_channels, out_channels)
    self.pixel_norm = pixel_norm

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, in_channels) to (B, 2H, 2W, out_channels)."""
    activate = functools.partial(_activate, pixel_norm=self.pixel_norm)
    return activate(self.conv_1(self.conv_0.after_upsampling(x, activate)))


def _activate(x: jax.Array, pixel_norm: bool) -> jax.Array:
  return leaky_relu_and_pixel_norm(x) if pixel_norm else leaky_relu(x)
