"""The discriminator that sees every scale (paper, section 3.1 and Table 7)."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models.layers import (
  LRELU_GAIN,
  Conv,
  Dense,
  blur,
  leaky_relu,
  num_channels,
  rematerialized,
  resolutions_up_to,
)
from msggan_jax.models.pyramid import Pyramid, downsample
from msggan_jax.models.stddev import BatchMean, MinibatchStddev, batch_mean

COMBINE_FUNCTIONS = ("simple", "lin_cat", "cat_lin", "lin_cat_equal")


class Discriminator(nnx.Module):
  """Scores a pyramid of images, from the full resolution down to 4x4.

  Args:
    resolution: Side of the largest image, in pixels; a power of two >= 4.
    scales: Resolutions of the pyramid, low to high, the last `resolution`.
    channels: Channels of the images.
    num_classes: Classes of a conditional discriminator; 0: unconditional.
    base_channels: Width at resolution r is base_channels / r, ...
    max_channels: ... but at most this.
    combine: How a scale's image joins the activation from above, the
      paper's phi: one of `COMBINE_FUNCTIONS`.
    stddev: The minibatch stddev.
    stddev_placement: "every_block" (the paper) or "last_block".
    stylegan: Whether `from_rgb` ends in a leaky ReLU and convolutions are
      blurred before the resolution is halved.
    equalized: Whether the learning rate is equalized, see `Layer`.
    spectral_norm: Whether the blocks' kernels are divided by their largest
      singular value.
    linear_gain: Gain of the linear layers: `from_rgb`, score, lin_cat's.
    remat_from: See `rematerialized`.
    dtype: Type of the activations; None: that of the images.
    rngs: Source of the initial weights.
  """

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    num_classes: int,
    base_channels: int,
    max_channels: int,
    combine: str,
    stddev: MinibatchStddev,
    stddev_placement: str,
    stylegan: bool = False,
    equalized: bool = True,
    spectral_norm: bool = False,
    linear_gain: float = 1.0,
    remat_from: int = 0,
    dtype: jnp.dtype | None = None,
    rngs: nnx.Rngs,
  ):
    self.resolution = resolution
    self.scales = scales
    self.num_classes = num_classes
    self.stylegan = stylegan
    self.remat_from = remat_from
    conv = functools.partial(Conv, equalized=equalized, dtype=dtype, rngs=rngs)
    from_rgb = conv(
      channels,
      num_channels(resolution, base_channels, max_channels),
      kernel_size=1,
      gain=LRELU_GAIN if stylegan else linear_gain,
    )
    setattr(self, f"from_rgb_{resolution}x{resolution}", from_rgb)

    def trunk_width(r: int) -> int:
      """Return the channels that arrive at a resolution from above."""
      width = num_channels(r, base_channels, max_channels)
      if combine == "lin_cat_equal" and r in scales and r != resolution:
        return max(1, width // 2)
      return width

    for r in reversed(resolutions_up_to(resolution)):
      width = num_channels(r, base_channels, max_channels)
      connected = r in scales and r != resolution
      block = Block(
        trunk_width(r),
        width,
        # A block halves the resolution; the last one keeps its width.
        width if r == 4 else trunk_width(r // 2),
        combine=Combine(
          combine, channels, trunk_width(r), linear_gain=linear_gain, conv=conv
        )
        if connected
        else None,
        stddev=stddev if stddev_placement == "every_block" or r == 4 else None,
        last=r == 4,
        blur=stylegan,
        conv=functools.partial(conv, spectral_norm=spectral_norm),
      )
      setattr(self, f"block_{r}x{r}", block)
    self.score = Dense(
      width,
      max(num_classes, 1),
      gain=linear_gain,
      equalized=equalized,
      rngs=rngs,
    )

  def __call__(
    self,
    pyramid: Pyramid,
    labels: jax.Array | None = None,
    *,
    batch_mean: BatchMean = batch_mean,
  ) -> jax.Array:
    """Score images.

    Args:
      pyramid: Images per scale, low to high, each (B, r, r, channels).
      labels: Classes, (B,), of a conditional discriminator, which has one
        score a class and returns the label's.
      batch_mean: The mean over the global batch, for a batch-wide minibatch
        stddev; over several devices it must cross them.

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
    if self.stylegan:
      x = leaky_relu(x)
    for r in reversed(resolutions_up_to(self.resolution)):
      block = functools.partial(
        getattr(self, f"block_{r}x{r}"), batch_mean=batch_mean
      )
      x = rematerialized(block, r, self.remat_from)(x, images.get(r))
    scores = self.score(x)
    if not self.num_classes:
      return scores[:, 0]
    chosen = jax.nn.one_hot(labels, self.num_classes, dtype=scores.dtype)
    return jnp.sum(scores * chosen, axis=-1)


class Combine(nnx.Module):
  """The combine function phi (paper, eq. 11 to 13), x1 image, x2 activation."""

  def __init__(
    self, name: str, image_channels: int, width: int, *, linear_gain, conv
  ):
    """Create phi.

    Args:
      name: "simple", "lin_cat", "cat_lin", or BMSG-GAN's "lin_cat_equal",
        whose trunk is half as wide and joined by as many image features.
      image_channels: C of the image.
      width: C of the activation.
      linear_gain: Gain of lin_cat's convolution.
      conv: Makes a convolution.
    """
    if name not in COMBINE_FUNCTIONS:
      raise ValueError(
        f"combine is {name!r}; choose one of {', '.join(COMBINE_FUNCTIONS)}"
      )
    self.name = name
    if name == "simple":
      self.conv = None
      self.out_channels = image_channels + width
    elif name == "cat_lin":
      # Without bias and with this gain, as the official code has it.
      self.conv = conv(
        image_channels + width,
        width,
        kernel_size=1,
        gain=LRELU_GAIN,
        use_bias=False,
      )
      self.out_channels = width
    else:
      features = width if name == "lin_cat_equal" else max(1, width // 2)
      self.conv = conv(
        image_channels, features, kernel_size=1, gain=linear_gain
      )
      self.out_channels = features + width

  def __call__(self, image: jax.Array, x: jax.Array) -> jax.Array:
    """Join the image, (B, H, W, C), and the activation, (B, H, W, width)."""
    image = image.astype(x.dtype)
    if self.name == "simple":
      return jnp.concatenate([image, x], axis=-1)
    if self.name == "cat_lin":
      return self.conv(jnp.concatenate([image, x], axis=-1))
    return jnp.concatenate([self.conv(image), x], axis=-1)


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7)."""

  def __init__(
    self,
    in_channels: int,
    width: int,
    out_channels: int,
    *,
    combine: Combine | None,
    stddev: MinibatchStddev | None,
    last: bool,
    blur: bool,
    conv,
  ):
    """Create the block.

    Args:
      in_channels: C of the activation from above.
      width: C of the first layer.
      out_channels: C of the second layer.
      combine: phi, or None where the scale's image does not enter.
      stddev: The minibatch stddev, or None in a block without.
      last: Whether this is the block at 4x4, which ends in a 4x4 convolution.
      blur: Whether the second layer is StyleGAN's: blurred before, activated
        after the pooling.
      conv: Makes a convolution.
    """
    self.combine = combine
    self.stddev = stddev
    self.last = last
    self.blur = blur
    first_in = combine.out_channels if combine else in_channels
    first_in += 1 if stddev else 0
    self.conv_0 = conv(first_in, width, kernel_size=3)
    self.conv_1 = conv(
      width,
      out_channels,
      kernel_size=4 if last else 3,
      padding="VALID" if last else "SAME",
    )

  def __call__(
    self, x: jax.Array, image: jax.Array | None, batch_mean: BatchMean
  ) -> jax.Array:
    """Map (B, H, W, in_channels) to half the size, or to (B, out_channels)."""
    if self.combine is not None:
      x = self.combine(image, x)
    if self.stddev is not None:
      x = self.stddev(x, batch_mean)
    x = leaky_relu(self.conv_0(x))
    if self.last:
      return leaky_relu(self.conv_1(x))[:, 0, 0, :]
    if self.blur:
      return leaky_relu(self.conv_1.before_downsampling(blur(x)))
    return downsample(leaky_relu(self.conv_1(x)))
