"""The multi-scale discriminator (paper, section 3.1 and Table 7)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import FrozenConfigDict

from msggan_jax.kernels import (
  Kernels,
  blur,
  concatenate,
  downsample,
  leaky_relu,
  like,
)
from msggan_jax.models import base_grid
from msggan_jax.models.layers import LRELU_GAIN, Conv, Dense
from msggan_jax.models.multi_scale import MultiScale, level_scope
from msggan_jax.models.pyramid import Pyramid, fade, resolution_of
from msggan_jax.models.residual import DiscriminatorBlock as ResidualBlock
from msggan_jax.models.stddev import BatchMean, MinibatchStddev, batch_mean

COMBINE_FUNCTIONS = ("simple", "lin_cat", "cat_lin", "lin_cat_equal")


class Discriminator(MultiScale):
  """Scores a pyramid of images, from the full resolution down to 4x4."""

  def __init__(self, config: FrozenConfigDict, forms: Kernels, rngs: nnx.Rngs):
    super().__init__(config, forms)
    stylegan = config.model == "stylegan"
    with_stddev = {
      "every_block": self.resolutions,
      "last_block": (4,),
      "none": (),
    }[config.stddev_placement]
    stddev = MinibatchStddev(
      config.stddev_group, config.stddev_grouping, config.stddev_spatial
    )
    self.stddev = stddev if with_stddev else None
    # Of images and scores: float32 in every precision.
    exact = functools.partial(
      Conv, equalized=config.equalized, forms=forms, rngs=rngs
    )
    in_trunk = functools.partial(exact, precision=self.precision)
    spectral_norm = {"spectral_norm": config.spectral_norm}
    connected = self.scales[:-1]
    halved = connected if config.combine == "lin_cat_equal" else ()

    def trunk_width(r: int) -> int:
      """Return the number of channels that enter the block at r."""
      return max(1, self.width(r) // 2) if r in halved else self.width(r)

    self.activates = stylegan or config.input_activation == "leaky_relu"
    gain = LRELU_GAIN if self.activates else config.linear_gain
    for r in self.with_rgb or (config.resolution,):
      from_rgb = exact(config.channels, self.width(r), kernel_size=1, gain=gain)
      self.set_at("from_rgb", r, from_rgb)
    if config.model == "residual":
      make_block = functools.partial(
        ResidualBlock, levels=len(self.resolutions)
      )
    else:
      make_block = functools.partial(Block, blur=stylegan)
    for r in reversed(self.resolutions):
      last = r == 4
      combine, in_channels = None, trunk_width(r)
      if r in connected:
        conv = in_trunk if config.combine == "cat_lin" else exact
        combine = Combine(config, in_channels, conv, forms)
        in_channels = combine.out_channels
      block = make_block(
        in_channels=in_channels + (r in with_stddev),
        width=self.width(r),
        out_channels=self.width(r) if last else trunk_width(r // 2),
        combine=combine,
        has_stddev=r in with_stddev,
        last=base_grid.parse(config.base_grid) if last else None,
        conv=functools.partial(in_trunk, **spectral_norm),
        last_conv=functools.partial(exact, **spectral_norm),
      )
      self.set_at("block", r, block)
    self.score = Dense(
      self.width(4),
      max(config.num_classes, 1),
      gain=config.linear_gain,
      equalized=config.equalized,
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
      labels: Class indices, (B,), if conditional: of one score per class, the
        label's is returned.
      batch_mean: Mean over the global batch, for a batch-wide minibatch
        stddev. With several devices it must cross them.

    Returns:
      Logits, (B,), float32.
    """
    config, forms = self.config, self.forms
    pyramid, stddev, leave = forms.enter(pyramid, self.stddev)
    images = {resolution_of(image): image for image in pyramid}
    r = config.resolution
    image = images.pop(r)
    with level_scope(r):
      x = self._from_rgb(r, image)
    for r in reversed(self.resolutions):
      with level_scope(r):
        x = forms.fit(x, self.width(r))
        if r == self.faded:
          below = self._from_rgb(r, downsample(image))
          x = fade(self.alpha[...], x, below)
        x = self.run_block(
          r, x, images.get(r), stddev=stddev, batch_mean=batch_mean
        )
    scores = leave(self.score(x))
    if not config.num_classes:
      return scores[:, 0]
    own = jax.nn.one_hot(labels, config.num_classes, dtype=scores.dtype)
    return jnp.sum(scores * own, axis=-1)

  def _from_rgb(self, resolution: int, image: jax.Array) -> jax.Array:
    image = self.forms.fit(image, self.width(resolution))
    x = self.at("from_rgb", resolution)(image)
    return self.precision.cast(leaky_relu(x) if self.activates else x)


class Combine(nnx.Module):
  """The combine function phi of an image x1 and an activation x2.

  "simple": [x1; x2] (paper, eq. 11); "lin_cat": [conv(x1); x2] (eq. 12);
  "cat_lin": conv([x1; x2]) (eq. 13). "lin_cat_equal", BMSG-GAN's lin_cat, has
  a trunk of half the width and as many image features.
  """

  def __init__(
    self,
    config: FrozenConfigDict,
    width: int,
    conv: Callable[..., Conv],
    forms: Kernels,
  ):
    self.name, self.forms = config.combine, forms
    if self.name == "simple":
      self.conv = None
      self.out_channels = config.channels + width
    elif self.name == "cat_lin":
      # The official code has no bias and the gain of a leaky ReLU.
      residual = config.model == "residual"
      self.conv = conv(
        config.channels + width,
        width,
        kernel_size=1,
        gain=config.linear_gain if residual else LRELU_GAIN,
        use_bias=False,
      )
      self.out_channels = width
    else:
      equal = self.name == "lin_cat_equal"
      features = width if equal else max(1, width // 2)
      self.conv = conv(
        config.channels, features, kernel_size=1, gain=config.linear_gain
      )
      self.out_channels = features + width

  def __call__(self, image: jax.Array, x: jax.Array) -> jax.Array:
    """Join image, (B, H, W, image channels), and x, (B, H, W, width)."""
    image = like(image, x)
    if self.name == "simple":
      return self.forms.prepend(image, x)
    if self.name == "cat_lin":
      return self.conv(concatenate(image, x))
    return concatenate(self.conv(image), x)


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7).

  `in_channels` is C with the image's and the stddev's channels, `width` that
  between the convolutions. `last` is the height and width of the block at 4x4,
  which ends in a convolution of all its pixels. With `blur`, it blurs before
  the second convolution and activates after the pooling (StyleGAN). `conv` and
  `last_conv` build convolutions.
  """

  def __init__(
    self,
    *,
    in_channels: int,
    width: int,
    out_channels: int,
    combine: Combine | None,
    has_stddev: bool,
    last: tuple[int, int] | None,
    blur: bool,
    conv: Callable[..., Conv],
    last_conv: Callable[..., Conv],
  ):
    self.combine, self.has_stddev = combine, has_stddev
    self.last, self.blur = last is not None, blur
    self.conv_0 = conv(in_channels, width, kernel_size=3, before_window=True)
    if last:
      self.conv_1 = last_conv(width, out_channels, last, padding="VALID")
    else:
      self.conv_1 = conv(width, out_channels, kernel_size=3)

  def __call__(
    self,
    x: jax.Array,
    image: jax.Array | None,
    *,
    stddev: MinibatchStddev,
    batch_mean: BatchMean,
  ) -> jax.Array:
    """Map (B, H, W, C) to (B, H/2, W/2, out_channels).

    The last block returns (B, out_channels).
    """
    x = x if self.combine is None else self.combine(image, x)
    x = stddev(x, batch_mean) if self.has_stddev else x
    forms = self.conv_0.forms
    x = forms.leaky_relu(self.conv_0(x))
    if self.last:
      return leaky_relu(self.conv_1(x))[:, 0, 0, :]
    if self.blur:
      return forms.leaky_relu(self.conv_1.before_downsampling(blur(x)))
    return forms.leaky_relu_and_downsample(self.conv_1(x))
