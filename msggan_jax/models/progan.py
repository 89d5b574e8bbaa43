"""MSG-ProGAN's generator (paper, section 3.1 and Table 6)."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.kernels import (
  BY_PLATFORM,
  Kernels,
  leaky_relu,
  leaky_relu_and_pixel_norm,
)
from msggan_jax.kernels.precision import (
  FLOAT32,
  Precision,
  at_least_float32,
  matmul,
)
from msggan_jax.models import residual as residual_blocks
from msggan_jax.models.layers import (
  Conv,
  Layer,
  initial_bias,
  join_label,
  level_scope,
  make_embedding,
  normalize_latents,
  num_channels,
  rematerialized,
)
from msggan_jax.models.pyramid import Pyramid, resolutions_up_to


class Generator(nnx.Module):
  """Maps a latent to one image per connected scale.

  Args:
    resolution: Side of the largest image, in pixels; a power of two >= 4.
    scales: Resolutions of the images, low to high (paper, Table 4).
    channels: Channels of the images.
    num_classes: Classes of a conditional generator; 0: unconditional.
    latent_size: Length of z.
    base_channels: Width at resolution r is base_channels / r, ...
    max_channels: ... but at most this.
    residual: Whether the blocks are those of `residual`, which have no pixel
      norm and no spectral norm, and whose learning rate is equalized.
    pixel_norm: Whether 3x3 convolutions are followed by pixel norm.
    equalized: Whether the learning rate is equalized, see `Layer`.
    spectral_norm: Whether the blocks' kernels have spectral norm.
    normalize_latents: Whether latents are projected onto the hypersphere.
    linear_gain: Gain of `to_rgb`.
    image_activation: "linear" or "tanh".
    remat_from: Lowest resolution that recomputes, see `rematerialized`.
    precision: Of the blocks' 3x3 convolutions and of their activations.
    forms: The kernels.
    base_grid: Height and width of the smallest images.
    rngs: Source of the initial weights.
  """

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    num_classes: int,
    latent_size: int,
    base_channels: int,
    max_channels: int,
    residual: bool = False,
    pixel_norm: bool = True,
    equalized: bool = True,
    spectral_norm: bool = False,
    normalize_latents: bool = True,
    linear_gain: float = 1.0,
    image_activation: str = "linear",
    remat_from: int = 0,
    precision: Precision = FLOAT32,
    forms: Kernels = BY_PLATFORM,
    base_grid: tuple[int, int] = (4, 4),
    rngs: nnx.Rngs,
  ):
    self.resolutions = resolutions_up_to(resolution)
    self.scales = scales
    self.normalize_latents = normalize_latents
    self.image_activation = image_activation
    self.remat_from = remat_from
    self.label_embedding = make_embedding(num_classes, latent_size, rngs)
    options = {"precision": precision, "forms": forms, "rngs": rngs}
    if residual:
      make_first, make_next = residual_blocks.FirstBlock, residual_blocks.Block
      options |= {"levels": len(self.resolutions)}
    else:
      make_first, make_next = FirstBlock, Block
      options |= {
        "pixel_norm": pixel_norm,
        "equalized": equalized,
        "spectral_norm": spectral_norm,
      }
    in_channels = latent_size * (2 if num_classes else 1)
    for r in self.resolutions:
      width = num_channels(r, base_channels, max_channels)
      if r == 4:
        block = make_first(in_channels, width, base_grid=base_grid, **options)
      else:
        block = make_next(in_channels, width, **options)
      # An nnx.Dict would add its own name to the paths of the weights.
      setattr(self, f"block_{r}x{r}", block)
      if r in scales:
        to_rgb = Conv(
          width,
          channels,
          kernel_size=1,
          gain=linear_gain,
          equalized=equalized,
          forms=forms,
          rngs=rngs,
        )
        setattr(self, f"to_rgb_{r}x{r}", to_rgb)
      in_channels = width

  def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents, (B, latent_size); on the hypersphere if `normalize_latents`.
      labels: Class indices, (B,), if conditional.

    Returns:
      Images per scale, low to high, (B, r, r, channels), about [-1, 1]; linear
      ones may overshoot.
    """
    x = self.join(z, labels)
    pyramid = []
    for r in self.resolutions:
      x, image = self.grow(r, x)
      if image is not None:
        pyramid.append(image)
    return tuple(pyramid)

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
      resolution: Resolution of the block.
      x: Activations of the block below, (B, H/2, W/2, C); at 4x4 `join`'s.

    Returns:
      Activations, (B, H, W, C), and the image, (B, H, W, channels); None if
      this scale is not connected.
    """
    name = f"{resolution}x{resolution}"
    block = getattr(self, f"block_{name}")
    with level_scope(resolution):
      x = rematerialized(block, resolution, self.remat_from)(x)
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
    *,
    pixel_norm: bool,
    equalized: bool,
    spectral_norm: bool,
    precision: Precision,
    forms: Kernels,
    base_grid: tuple[int, int],
    rngs: nnx.Rngs,
  ):
    self.base_grid = base_grid
    places = base_grid[0] * base_grid[1]
    # A 4x4 transposed convolution of a 1x1 input is a dense layer with one bias
    # for all 16 pixels. PyTorch's fan_in is that of the forward convolution.
    fan_in = latent_size if equalized else places * width
    options = {
      "equalized": equalized,
      "spectral_norm": spectral_norm,
      "rngs": rngs,
    }
    self.dense = Layer(
      (latent_size, places * width),
      fan_in=fan_in,
      out_channels=width,
      use_bias=False,
      **options,
    )
    self.bias = nnx.Param(initial_bias(width, fan_in, equalized, rngs))
    options |= {"precision": precision, "forms": forms}
    self.conv = Conv(width, width, kernel_size=3, **options)
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
    self, in_channels: int, out_channels: int, *, pixel_norm: bool, **options
  ):
    conv = functools.partial(Conv, kernel_size=3, **options)
    self.conv_0 = conv(in_channels, out_channels)
    self.conv_1 = conv(out_channels, out_channels)
    self.pixel_norm = pixel_norm

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, in_channels) to (B, 2H, 2W, out_channels)."""
    x = _activate(self.conv_0.after_upsampling(x), self.pixel_norm)
    return _activate(self.conv_1(x), self.pixel_norm)


def _activate(x: jax.Array, pixel_norm: bool) -> jax.Array:
  return leaky_relu_and_pixel_norm(x) if pixel_norm else leaky_relu(x)
