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
from msggan_jax.models.layers import (
  LRELU_GAIN,
  Common,
  Conv,
  Dense,
  level_scope,
)
from msggan_jax.models.pyramid import Pyramid, resolution_of, resolutions_up_to
from msggan_jax.models.residual import DiscriminatorBlock as ResidualBlock
from msggan_jax.models.stddev import BatchMean, MinibatchStddev, batch_mean

COMBINE_FUNCTIONS = ("simple", "lin_cat", "cat_lin", "lin_cat_equal")


class Discriminator(nnx.Module):
  """Scores a pyramid of images, from the full resolution down to 4x4.

  Args:
    common: What it shares with G.
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
    rngs: Source of the initial weights.
  """

  def __init__(
    self,
    common: Common,
    *,
    combine: str,
    stddev: MinibatchStddev,
    stddev_placement: str,
    stylegan: bool,
    residual: bool,
    equalized: bool,
    spectral_norm: bool,
    rngs: nnx.Rngs,
  ):
    self.common, self.stylegan = common, stylegan
    self.stddev = None if stddev_placement == "none" else stddev
    forms, width = common.forms, common.width
    # Of images and scores: float32 in every precision.
    exact = functools.partial(Conv, equalized=equalized, forms=forms, rngs=rngs)
    in_trunk = functools.partial(exact, precision=common.precision)
    last_conv = functools.partial(exact, spectral_norm=spectral_norm)
    connected = common.scales[:-1]
    resolutions = resolutions_up_to(common.resolution)
    halved = connected if combine == "lin_cat_equal" else ()

    def trunk_width(r: int) -> int:
      """Return the number of channels that enter the block at r."""
      return max(1, width(r) // 2) if r in halved else width(r)

    r = common.resolution
    gain = LRELU_GAIN if stylegan else common.linear_gain
    from_rgb = exact(common.channels, width(r), kernel_size=1, gain=gain)
    setattr(self, f"from_rgb_{r}x{r}", from_rgb)

    make_phi = functools.partial(
      Combine,
      combine,
      image_channels=common.channels,
      linear_gain=common.linear_gain,
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
        last=common.base_grid if last else None,
        conv=functools.partial(in_trunk, spectral_norm=spectral_norm),
        last_conv=last_conv,
      )
      setattr(self, f"block_{r}x{r}", block)
    dense = functools.partial(Dense, equalized=equalized, rngs=rngs)
    size = max(common.num_classes, 1)
    self.score = dense(width(4), size, gain=common.linear_gain)

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
    common, forms = self.common, self.common.forms
    pyramid, stddev, leave = forms.enter(pyramid, self.stddev)
    images = {resolution_of(image): image for image in pyramid}
    if tuple(images) != common.scales:
      raise ValueError(
        f"the pyramid has scales {tuple(images)}; give {common.scales}, low to "
        "high"
      )
    r = common.resolution
    with level_scope(r):
      image = forms.fit(images.pop(r), common.width(r))
      x = getattr(self, f"from_rgb_{r}x{r}")(image)
      if self.stylegan:
        x = leaky_relu(x)
      x = common.precision.cast(x)
    for r in reversed(resolutions_up_to(common.resolution)):
      block = functools.partial(
        getattr(self, f"block_{r}x{r}"), stddev=stddev, batch_mean=batch_mean
      )
      with level_scope(r):
        x = forms.fit(x, common.width(r))
        x = common.rematerialized(block, r)(x, images.get(r))
    scores = leave(self.score(x))
    if not common.num_classes:
      return scores[:, 0]
    own = jax.nn.one_hot(labels, common.num_classes, dtype=scores.dtype)
    return jnp.sum(scores * own, axis=-1)


class Combine(nnx.Module):
  """The combine function phi of an image x1 and an activation x2.

  "simple": [x1; x2] (paper, eq. 11); "lin_cat": [conv(x1); x2] (eq. 12);
  "cat_lin": conv([x1; x2]) (eq. 13). "lin_cat_equal", BMSG-GAN's lin_cat, has
  a trunk of half the width and as many image features.

  `linear_gain` is that of lin_cat's convolution, and of cat_lin's in residual
  networks.
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
    elif name in ("lin_cat", "lin_cat_equal"):
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
    if self.name in ("lin_cat", "lin_cat_equal"):
      return concatenate(self.conv(image), x)
    raise NotImplementedError(self.name)


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7).

  Args:
    in_channels: C of the activation from above.
    width: C between the convolutions.
    out_channels: C of the result.
    combine: The combine function; None: no image enters this block.
    has_stddev: Whether the minibatch stddev is one of the channels.
    last: Height and width of the block at 4x4, which ends in a convolution of
      all its pixels; None: another block.
    blur: Whether to blur before the second convolution and to activate after
      the pooling, as StyleGAN does.
    conv: Builds a convolution.
    last_conv: Builds the last one.
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
