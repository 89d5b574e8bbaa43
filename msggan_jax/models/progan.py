"""MSG-ProGAN's generator (paper, section 3.1 and Table 6)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.kernels import leaky_relu, leaky_relu_and_pixel_norm
from msggan_jax.kernels.precision import at_least_float32, matmul
from msggan_jax.models import residual as residual_blocks
from msggan_jax.models.layers import (
  Common,
  Conv,
  Layer,
  initial_bias,
  join_label,
  level_scope,
  make_embedding,
  normalize_latents,
)
from msggan_jax.models.pyramid import Pyramid, join_images, resolutions_up_to

_OF_DENSE = ("equalized", "spectral_norm", "rngs")  # options of any layer


class Generator(nnx.Module):
  """Maps a latent to one image per connected scale.

  Args:
    common: What it shares with D.
    latent_size: Length of z.
    residual: Whether the blocks are those of `residual`, which have no pixel
      norm and no spectral norm, and whose learning rate is equalized.
    pixel_norm: Whether 3x3 convolutions are followed by pixel norm.
    equalized: Whether the learning rate is equalized, see `Layer`.
    spectral_norm: Whether the blocks' kernels have spectral norm.
    normalize_latents: Whether latents are projected onto the hypersphere.
    image_activation: "linear" or "tanh".
    rngs: Source of the initial weights.
  """

  def __init__(
    self,
    common: Common,
    *,
    latent_size: int,
    residual: bool,
    pixel_norm: bool,
    equalized: bool,
    spectral_norm: bool,
    normalize_latents: bool,
    image_activation: str,
    rngs: nnx.Rngs,
  ):
    self.common, self.scales = common, common.scales
    self.resolutions = resolutions_up_to(common.resolution)
    self.normalize_latents = normalize_latents
    self.image_activation = image_activation
    classes = common.num_classes
    self.label_embedding = make_embedding(classes, latent_size, rngs)
    to_rgb = functools.partial(
      Conv,
      out_channels=common.channels,
      kernel_size=1,
      gain=common.linear_gain,
      equalized=equalized,
      forms=common.forms,
      rngs=rngs,
    )
    conv = functools.partial(
      Conv, precision=common.precision, forms=common.forms, rngs=rngs
    )
    if residual:
      make_first, make_next = residual_blocks.FirstBlock, residual_blocks.Block
      options = {"levels": len(self.resolutions), "conv": conv}
    else:
      make_first, make_next = FirstBlock, Block
      norms = {"equalized": equalized, "spectral_norm": spectral_norm}
      conv = functools.partial(conv, kernel_size=3, **norms)
      options = {"pixel_norm": pixel_norm, "conv": conv}
    in_channels = latent_size * (2 if classes else 1)
    for r in self.resolutions:
      width = common.width(r)
      if r == 4:
        block = make_first(in_channels, width, common.base_grid, **options)
      else:
        block = make_next(in_channels, width, **options)
      # An nnx.Dict would add its own name to the paths of the weights.
      setattr(self, f"block_{r}x{r}", block)
      if r in common.scales:
        setattr(self, f"to_rgb_{r}x{r}", to_rgb(width))
      in_channels = width

  def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents, (B, latent_size); on the hypersphere if `normalize_latents`.
      labels: Class indices, (B,), if conditional.

    Returns:
      Images, low to high, (B, r, r, channels), about [-1, 1] or beyond.
    """
    x = self.join(z, labels)
    pyramid = []
    for r in self.resolutions:
      x, image = self.grow(r, x)
      if image is not None:
        pyramid.append(image)
    return join_images(pyramid, self.common.pyramid)

  def join(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    """Return the first block's input, (B, latent_size or twice that)."""
    x = join_label(z, labels, self.label_embedding)
    if self.label_embedding is not None and self.normalize_latents:
      x = normalize_latents(x)
    return x

  def grow(
    self, resolution: int, x: jax.Array
  ) -> tuple[jax.Array, jax.Array | None]:
    """Run one block.

    Args:
      resolution: That of the block.
      x: Activations of the block below, (B, H/2, W/2, C); at 4x4 `join`'s.

    Returns:
      Activations, (B, H, W, C), and the image; None without this scale.
    """
    name = f"{resolution}x{resolution}"
    block = getattr(self, f"block_{name}")
    with level_scope(resolution):
      x = self.common.rematerialized(block, resolution)(x)
      if resolution not in self.scales:
        return x, None
      # `to_rgb` and its images are float32 in every precision.
      image = getattr(self, f"to_rgb_{name}")(x)
      if self.image_activation == "tanh":
        image = jax.tree.map(jnp.tanh, image)
      return x, image


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
    x = _activate(self.conv_0.after_upsampling(x), self.pixel_norm)
    return _activate(self.conv_1(x), self.pixel_norm)


def _activate(x: jax.Array, pixel_norm: bool) -> jax.Array:
  return leaky_relu_and_pixel_norm(x) if pixel_norm else leaky_relu(x)
