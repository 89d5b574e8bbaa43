"""The discriminator that sees every scale (paper, section 3.1 and Table 7)."""

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.images import Pyramid, downsample
from msggan_jax.models.layers import (
  LRELU_GAIN,
  Conv,
  Dense,
  leaky_relu,
  minibatch_stddev,
  num_channels,
  resolutions_up_to,
)

COMBINE_FUNCTIONS = ("simple", "lin_cat", "cat_lin")


class Discriminator(nnx.Module):
  """Scores a pyramid of images, from the full resolution down to 4x4."""

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    base_channels: int,
    max_channels: int,
    combine: str,
    stddev_group: int,
    stddev_placement: str,
    stddev_grouping: str,
    dtype: jnp.dtype | None = None,
    rngs: nnx.Rngs,
  ):
    """Create the discriminator.

    Args:
      resolution: Side of the largest image, in pixels; a power of two >= 4.
      scales: Resolutions of the pyramid, low to high, the last `resolution`.
      channels: Channels of the images.
      base_channels: Width at resolution r is base_channels / r, ...
      max_channels: ... but at most this.
      combine: How a scale's image joins the activation from above, the
        paper's phi: "simple", "lin_cat" or "cat_lin".
      stddev_group: Examples in a group of the minibatch stddev.
      stddev_placement: "every_block" (the paper) or "last_block".
      stddev_grouping: "contiguous" or "strided", see `minibatch_stddev`.
      dtype: Type of the activations; None: that of the images.
      rngs: Source of the initial weights.
    """
    self.resolution = resolution
    self.scales = scales
    self.dtype = dtype
    width = num_channels(resolution, base_channels, max_channels)
    from_rgb = Conv(channels, width, 1, gain=1.0, dtype=dtype, rngs=rngs)
    setattr(self, f"from_rgb_{resolution}x{resolution}", from_rgb)
    for r in reversed(resolutions_up_to(resolution)):
      width = num_channels(r, base_channels, max_channels)
      connected = r in scales and r != resolution
      block = Block(
        width,
        # A block halves the resolution; the last one keeps its width.
        width if r == 4 else num_channels(r // 2, base_channels, max_channels),
        combine=Combine(combine, channels, width, dtype=dtype, rngs=rngs)
        if connected
        else None,
        stddev_group=stddev_group
        if stddev_placement == "every_block" or r == 4
        else 0,
        stddev_grouping=stddev_grouping,
        last=r == 4,
        dtype=dtype,
        rngs=rngs,
      )
      setattr(self, f"block_{r}x{r}", block)
    self.score = Dense(width, 1, gain=1.0, rngs=rngs)

  def __call__(self, pyramid: Pyramid) -> jax.Array:
    """Score images.

    Args:
      pyramid: Images per scale, low to high, each (B, r, r, channels).

    Returns:
      Logits, (B,), float32.

    Raises:
      ValueError: If the pyramid's scales are not this network's.
    """
    images = {image.shape[1]: image for image in pyramid}
    if tuple(images) != self.scales:
      raise ValueError(
        f"the discriminator takes scales {self.scales}, not {tuple(images)}"
      )
    r = self.resolution
    x = getattr(self, f"from_rgb_{r}x{r}")(images.pop(r))
    for r in reversed(resolutions_up_to(self.resolution)):
      x = getattr(self, f"block_{r}x{r}")(x, images.get(r))
    return self.score(x)[:, 0]


class Combine(nnx.Module):
  """The combine function phi (paper, eq. 11 to 13), x1 image, x2 activation."""

  def __init__(
    self, name: str, image_channels: int, width: int, *, dtype, rngs: nnx.Rngs
  ):
    """Create phi; `width` is the number of channels of the activation."""
    if name not in COMBINE_FUNCTIONS:
      raise ValueError(
        f"combine is {name!r}; choose one of {', '.join(COMBINE_FUNCTIONS)}"
      )
    self.name = name
    if name == "simple":
      self.conv = None
      self.out_channels = image_channels + width
    elif name == "lin_cat":
      self.conv = Conv(
        image_channels, width // 2, 1, gain=1.0, dtype=dtype, rngs=rngs
      )
      self.out_channels = width // 2 + width
    else:  # Without bias and with this gain, as the official code has it.
      self.conv = Conv(
        image_channels + width,
        width,
        1,
        gain=LRELU_GAIN,
        use_bias=False,
        dtype=dtype,
        rngs=rngs,
      )
      self.out_channels = width

  def __call__(self, image: jax.Array, x: jax.Array) -> jax.Array:
    """Join the image, (B, H, W, C), and the activation, (B, H, W, width)."""
    image = image.astype(x.dtype)
    if self.name == "simple":
      return jnp.concatenate([image, x], axis=-1)
    if self.name == "lin_cat":
      return jnp.concatenate([self.conv(image), x], axis=-1)
    return self.conv(jnp.concatenate([image, x], axis=-1))


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7)."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    *,
    combine: Combine | None,
    stddev_group: int,
    stddev_grouping: str,
    last: bool,
    dtype,
    rngs: nnx.Rngs,
  ):
    """Create the block.

    Args:
      in_channels: Width of the activation from above and of the first layer.
      out_channels: Width of the second layer.
      combine: phi, or None where the scale's image does not enter.
      stddev_group: Group of the minibatch stddev; 0: none in this block.
      stddev_grouping: See `minibatch_stddev`.
      last: Whether this is the block at 4x4, which ends in a 4x4 convolution.
      dtype: Type of the activations.
      rngs: Source of the initial weights.
    """
    self.combine = combine
    self.stddev_group = stddev_group
    self.stddev_grouping = stddev_grouping
    self.last = last
    first_in = combine.out_channels if combine else in_channels
    first_in += 1 if stddev_group else 0
    self.conv_0 = Conv(first_in, in_channels, 3, dtype=dtype, rngs=rngs)
    self.conv_1 = Conv(
      in_channels,
      out_channels,
      4 if last else 3,
      padding="VALID" if last else "SAME",
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(self, x: jax.Array, image: jax.Array | None) -> jax.Array:
    """Map (B, H, W, in_channels) to half the size, or to (B, out_channels)."""
    if self.combine is not None:
      x = self.combine(image, x)
    if self.stddev_group:
      x = minibatch_stddev(x, self.stddev_group, self.stddev_grouping)
    x = leaky_relu(self.conv_0(x))
    x = leaky_relu(self.conv_1(x))
    return x[:, 0, 0, :] if self.last else downsample(x)
