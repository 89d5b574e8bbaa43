"""The multi-scale discriminator (paper, section 3.1 and Table 7)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.kernels import (
  BY_PLATFORM,
  Kernels,
  blur,
  concatenate,
  downsample,
  leaky_relu,
  like,
)
from msggan_jax.kernels.precision import FLOAT32, Precision
from msggan_jax.models.layers import (
  LRELU_GAIN,
  Conv,
  Dense,
  level_scope,
  num_channels,
  rematerialized,
)
from msggan_jax.models.pyramid import Pyramid, resolution_of, resolutions_up_to
from msggan_jax.models.residual import DiscriminatorBlock as ResidualBlock
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
    combine: The paper's phi, which joins a scale's image and the activation
      from above: one of `COMBINE_FUNCTIONS`.
    stddev: The minibatch stddev layer.
    stddev_placement: "every_block" (the paper), "last_block" or "none".
    stylegan: Whether `from_rgb` has a leaky ReLU and blocks blur before they
      downsample.
    residual: Whether the blocks are those of `residual`, which have no spectral
      norm, and whose learning rate is equalized.
    equalized: Whether the learning rate is equalized, see `Layer`.
    spectral_norm: Whether the blocks' kernels have spectral norm.
    linear_gain: Gain of the linear layers: `from_rgb`, score, phi_lin_cat.
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
    base_channels: int,
    max_channels: int,
    combine: str,
    stddev: MinibatchStddev,
    stddev_placement: str,
    stylegan: bool = False,
    residual: bool = False,
    equalized: bool = True,
    spectral_norm: bool = False,
    linear_gain: float = 1.0,
    remat_from: int = 0,
    precision: Precision = FLOAT32,
    forms: Kernels = BY_PLATFORM,
    base_grid: tuple[int, int] = (4, 4),
    rngs: nnx.Rngs,
  ):
    self.resolution, self.scales = resolution, scales
    self.num_classes, self.stylegan = num_classes, stylegan
    self.remat_from = remat_from
    self.stddev = None if stddev_placement == "none" else stddev
    self.precision, self.forms = precision, forms
    # Of images and scores: float32 in every precision.
    exact = functools.partial(Conv, equalized=equalized, forms=forms, rngs=rngs)
    in_trunk = functools.partial(exact, precision=precision)
    last_conv = functools.partial(exact, spectral_norm=spectral_norm)
    connected = scales[:-1]
    resolutions = resolutions_up_to(resolution)
    halved = connected if combine == "lin_cat_equal" else ()

    def width(r: int) -> int:
      return num_channels(r, base_channels, max_channels)

    def trunk_width(r: int) -> int:
      """Return the number of channels that enter the block at r."""
      return max(1, width(r) // 2) if r in halved else width(r)

    self.width = width(resolution)
    gain = LRELU_GAIN if stylegan else linear_gain
    from_rgb = exact(channels, self.width, kernel_size=1, gain=gain)
    setattr(self, f"from_rgb_{resolution}x{resolution}", from_rgb)

    make_phi = functools.partial(
      Combine,
      combine,
      image_channels=channels,
      linear_gain=linear_gain,
      residual=residual,
      conv=in_trunk if combine == "cat_lin" else exact,
      forms=forms,
    )
    if residual:
      make_block = functools.partial(ResidualBlock, levels=len(resolutions))
    else:
      make_block = functools.partial(Block, blur=stylegan)
    for r in reversed(resolutions):
      last = r == 4
      block = make_block(
        in_channels=trunk_width(r),
        width=width(r),
        out_channels=width(r) if last else trunk_width(r // 2),
        combine=make_phi(width=trunk_width(r)) if r in connected else None,
        has_stddev=r in _with_stddev(stddev_placement, resolutions),
        last=base_grid if last else None,
        conv=functools.partial(in_trunk, spectral_norm=spectral_norm),
        last_conv=last_conv,
        forms=forms,
      )
      setattr(self, f"block_{r}x{r}", block)
    dense = functools.partial(Dense, equalized=equalized, rngs=rngs)
    self.score = dense(width(4), max(num_classes, 1), gain=linear_gain)

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

    Raises:
      ValueError: If the pyramid has other scales than the network.
    """
    pyramid, stddev, leave = self.forms.enter(pyramid, self.stddev)
    images = {resolution_of(image): image for image in pyramid}
    if tuple(images) != self.scales:
      raise ValueError(
        f"the pyramid has scales {tuple(images)}; give {self.scales}, low to "
        "high"
      )
    r = self.resolution
    with level_scope(r):
      image = self.forms.fit(images.pop(r), self.width)
      x = getattr(self, f"from_rgb_{r}x{r}")(image)
      if self.stylegan:
        x = leaky_relu(x)
      x = self.precision.cast(x)
    for r in reversed(resolutions_up_to(self.resolution)):
      block = functools.partial(
        getattr(self, f"block_{r}x{r}"), stddev=stddev, batch_mean=batch_mean
      )
      with level_scope(r):
        x = rematerialized(block, r, self.remat_from)(x, images.get(r))
    scores = leave(self.score(x))
    if not self.num_classes:
      return scores[:, 0]
    own = jax.nn.one_hot(labels, self.num_classes, dtype=scores.dtype)
    return jnp.sum(scores * own, axis=-1)


class Combine(nnx.Module):
  """The combine function phi of an image x1 and an activation x2.

  "simple": [x1; x2] (paper, eq. 11); "lin_cat": [conv(x1); x2] (eq. 12);
  "cat_lin": conv([x1; x2]) (eq. 13). "lin_cat_equal", BMSG-GAN's lin_cat, has
  a trunk of half the width and as many image features.

  Args:
    name: One of `COMBINE_FUNCTIONS`.
    image_channels: C of the image.
    width: C of the activation.
    linear_gain: Gain of lin_cat's convolution.
    residual: Whether cat_lin's has this gain, too.
    conv: Builds a convolution.
    forms: The kernels.
  """

  def __init__(
    self,
    name: str,
    *,
    image_channels: int,
    width: int,
    linear_gain: float,
    residual: bool = False,
    conv: Callable[..., Conv],
    forms: Kernels = BY_PLATFORM,
  ):
    if name not in COMBINE_FUNCTIONS:
      raise ValueError(
        f"combine is {name!r}; choose one of {', '.join(COMBINE_FUNCTIONS)}"
      )
    self.name, self.forms = name, forms
    if name == "simple":
      self.conv = None
      self.out_channels = image_channels + width
    elif name == "cat_lin":
      # The official code has no bias and the gain of a leaky ReLU.
      self.conv = conv(
        image_channels + width,
        width,
        kernel_size=1,
        gain=linear_gain if residual else LRELU_GAIN,
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
    """Join image, (B, H, W, image_channels), and x, (B, H, W, width)."""
    image = like(image, x)
    if self.name == "simple":
      return self.forms.prepend(image, x)
    if self.name == "cat_lin":
      return self.conv(concatenate(image, x))
    return concatenate(self.conv(image), x)


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7).

  Args:
    in_channels: C of the activation from above.
    width: C of the first convolution's result.
    out_channels: C of the second convolution's result.
    combine: The combine function; None: no image enters this block.
    has_stddev: Whether the minibatch stddev is one of the channels.
    last: Height and width of the block at 4x4, which ends in a convolution of
      all its pixels; None: another block.
    blur: Whether to blur before the second convolution and to activate after
      the pooling, as StyleGAN does.
    conv: Builds a 3x3 convolution.
    last_conv: Builds the last convolution.
    forms: The kernels.
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
    forms: Kernels,
  ):
    self.combine, self.has_stddev = combine, has_stddev
    self.last, self.blur = last is not None, blur
    self.width, self.forms = width, forms
    joined = in_channels if combine is None else combine.out_channels
    self.conv_0 = conv(
      joined + int(has_stddev), width, kernel_size=3, before_window=True
    )
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
    """Map (B, H, W, in_channels) to (B, H/2, W/2, out_channels).

    The last block returns (B, out_channels).
    """
    x = self.forms.fit(x, self.width)
    x = x if self.combine is None else self.combine(image, x)
    x = stddev(x, batch_mean) if self.has_stddev else x
    x = leaky_relu(self.conv_0(x))
    if self.last:
      return leaky_relu(self.conv_1(x))[:, 0, 0, :]
    if self.blur:
      return leaky_relu(self.conv_1.before_downsampling(blur(x)))
    return downsample(leaky_relu(self.conv_1(x)))


def _with_stddev(
  placement: str, resolutions: tuple[int, ...]
) -> tuple[int, ...]:
  """Return the resolutions whose blocks have the minibatch stddev."""
  return {"every_block": resolutions, "last_block": (4,), "none": ()}[placement]
