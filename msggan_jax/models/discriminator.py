"""The multi-scale discriminator (paper, section 3.1 and Table 7)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.folded import (
  LANES,
  best_fold,
  fold_like,
  refold,
  shift_of,
)
from msggan_jax.models.layers import (
  LRELU_GAIN,
  Dense,
  blur,
  leaky_relu,
  level_scope,
  num_channels,
  rematerialized,
)
from msggan_jax.models.precision import FLOAT32, Precision
from msggan_jax.models.pyramid import (
  Pyramid,
  downsample,
  resolution_of,
  resolutions_up_to,
)
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
    folding: Whether narrow levels are folded, see `folded`.
    precision: Of the blocks' 3x3 convolutions and of their activations.
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
    folding: bool = False,
    precision: Precision = FLOAT32,
    base_grid: tuple[int, int] = (4, 4),
    rngs: nnx.Rngs,
  ):
    self.resolution, self.scales = resolution, scales
    self.num_classes = num_classes
    self.stylegan, self.folding, self.remat_from = stylegan, folding, remat_from
    self.stddev, self.has_stddev = stddev, stddev_placement != "none"
    self.precision = precision
    # Of images and scores: float32 in every precision.
    exact = functools.partial(Conv, equalized=equalized, rngs=rngs)
    dense = functools.partial(Dense, equalized=equalized, rngs=rngs)
    conv = functools.partial(exact, precision=precision)
    phi_conv = conv if combine == "cat_lin" else exact
    connected = [r for r in scales if r != resolution]
    resolutions = resolutions_up_to(resolution)
    make_block = _block_maker(residual, stylegan, folding, len(resolutions))
    halved = connected if combine == "lin_cat_equal" else []

    def width(r: int) -> int:
      return num_channels(r, base_channels, max_channels)

    def trunk_width(r: int) -> int:
      """Return the number of channels that enter the block at r."""
      return max(1, width(r) // 2) if r in halved else width(r)

    from_rgb = exact(
      channels,
      width(resolution),
      kernel_size=1,
      fold=best_fold(resolution, width(resolution), folding),
      gain=LRELU_GAIN if stylegan else linear_gain,
    )
    setattr(self, f"from_rgb_{resolution}x{resolution}", from_rgb)

    for r in reversed(resolutions):
      last = r == 4
      fold = best_fold(r, width(r), folding)
      phi = None
      if r in connected:
        phi = Combine(
          combine,
          image_channels=channels,
          width=trunk_width(r),
          linear_gain=linear_gain,
          residual=residual,
          conv=functools.partial(phi_conv, fold=fold),
        )
      block = make_block(
        in_channels=trunk_width(r),
        width=width(r),
        out_channels=width(r) if last else trunk_width(r // 2),
        combine=phi,
        has_stddev=r in _with_stddev(stddev_placement, resolutions),
        fold=fold,
        last=base_grid if last else None,
        conv=functools.partial(conv, fold=fold, spectral_norm=spectral_norm),
        last_conv=functools.partial(exact, spectral_norm=spectral_norm),
      )
      setattr(self, f"block_{r}x{r}", block)
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
      pyramid: Images per scale, low to high, each (B, r, r, channels), of any
        fold.
      labels: Class indices, (B,), if conditional: of one score per class, the
        label's is returned.
      batch_mean: Mean over the global batch, for a batch-wide minibatch
        stddev. With several devices it must cross them.

    Returns:
      Logits, (B,), float32.

    Raises:
      ValueError: If the pyramid has other scales than the network.
    """
    folded = self.folding and self.has_stddev
    stddev = folded and self.stddev.interleaved(len(pyramid[0]))
    if stddev:
      pyramid = tuple(map(self.stddev.interleave, pyramid))
    images = {resolution_of(image): image for image in pyramid}
    if tuple(images) != self.scales:
      raise ValueError(
        f"the pyramid has scales {tuple(images)}; give {self.scales}, low to "
        "high"
      )
    r = self.resolution
    with level_scope(r):
      x = getattr(self, f"from_rgb_{r}x{r}")(images.pop(r))
      if self.stylegan:
        x = leaky_relu(x)
      x = self.precision.cast(x)
    for r in reversed(resolutions_up_to(self.resolution)):
      block = functools.partial(
        getattr(self, f"block_{r}x{r}"),
        stddev=stddev or self.stddev,
        batch_mean=batch_mean,
      )
      with level_scope(r):
        x = rematerialized(block, r, self.remat_from)(x, images.get(r))
    scores = self.score(x)
    if stddev:
      scores = self.stddev.interleave(scores, inverse=True)
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
  ):
    if name not in COMBINE_FUNCTIONS:
      raise ValueError(
        f"combine is {name!r}; choose one of {', '.join(COMBINE_FUNCTIONS)}"
      )
    self.name = name
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
    image = fold_like(image, x)
    if self.name.startswith("lin_cat"):
      image = self.conv(image)
    joined = jnp.concatenate([image.astype(x.dtype), x], axis=-1)
    return self.conv(joined) if self.name == "cat_lin" else joined


class Block(nnx.Module):
  """Combine, minibatch stddev, two convolutions, average pool (Table 7).

  Args:
    in_channels: C of the activation from above.
    width: C of the first convolution's output.
    out_channels: C of the second convolution's output.
    combine: The combine function; None: no image enters this block.
    has_stddev: Whether the minibatch stddev is one of the channels.
    fold: Fold of its level.
    folding: Whether the network is folded.
    last: Height and width of the block at 4x4, which ends in a convolution of
      all its pixels; None: another block.
    blur: Whether to blur before the second convolution and to activate after
      the pooling, as StyleGAN does.
    conv: Builds a 3x3 convolution.
    last_conv: Builds the last convolution.
  """

  def __init__(
    self,
    *,
    in_channels: int,
    width: int,
    out_channels: int,
    combine: Combine | None,
    has_stddev: bool,
    fold: int,
    folding: bool,
    last: tuple[int, int] | None,
    blur: bool,
    conv: Callable[..., Conv],
    last_conv: Callable[..., Conv],
  ):
    self.combine = combine
    self.has_stddev = has_stddev
    self.last = last is not None
    self.blur = blur
    self.fold, shift = fold, 0 if last else shift_of(fold)
    joined = in_channels if combine is None else combine.out_channels
    more = int(has_stddev)
    self.conv_0 = conv(joined + more, width, kernel_size=3, shifts=(0, shift))
    # TPUs would pad a few channels more than fill their lanes to 128 more.
    simple = combine is not None and combine.name == "simple"
    self.image_apart = (
      folding and simple and _overflows(in_channels * fold, joined * fold)
    )
    own = in_channels if self.image_apart else joined
    self.stddev_apart = folding and _overflows(own * fold, (own + more) * fold)
    if last:
      self.conv_1 = last_conv(width, out_channels, last, padding="VALID")
    else:
      # A blur between the convolutions undoes the shift.
      shifts = (0 if blur else shift, 0)
      self.conv_1 = conv(width, out_channels, kernel_size=3, shifts=shifts)

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
    x = refold(x, self.fold)
    x = leaky_relu(self._join_and_convolve(x, image, stddev, batch_mean))
    if self.last:
      return leaky_relu(self.conv_1(x))[:, 0, 0, :]
    if self.blur:
      x = blur(x, self.fold, self.conv_0.shifts[1])
      return leaky_relu(self.conv_1.before_downsampling(x))
    return downsample(leaky_relu(self.conv_1(x)))

  def _join_and_convolve(
    self, x, image, stddev: MinibatchStddev, batch_mean: BatchMean
  ) -> jax.Array:
    """Return the first convolution of x, the image and their stddev."""
    image_apart = self.image_apart and not stddev.spatial
    value = None
    if image_apart:
      # As rounded as beside x.
      image = fold_like(image, x).astype(x.dtype)
      parts = [image, x]
    else:
      x = x if self.combine is None else self.combine(image, x)
      parts = [x]
    if self.has_stddev:
      if image_apart or (self.stddev_apart and not stddev.spatial):
        value = stddev.of_parts(parts, batch_mean)
      else:
        x = stddev(x, batch_mean)
    if image_apart or value is not None:
      return self.conv_0.of_parts(image if image_apart else None, x, value)
    return self.conv_0(x)


def _block_maker(
  residual: bool, stylegan: bool, folding: bool, levels: int
) -> Callable[..., nnx.Module]:
  if residual:
    return functools.partial(ResidualBlock, levels=levels)
  return functools.partial(Block, folding=folding, blur=stylegan)


def _with_stddev(
  placement: str, resolutions: tuple[int, ...]
) -> tuple[int, ...]:
  """Return the resolutions whose blocks have the minibatch stddev."""
  return {"every_block": resolutions, "last_block": (4,), "none": ()}[placement]


def _overflows(lanes: int, with_more: int) -> bool:
  """Return whether more channels need more of a TPU's vectors."""
  return -(-with_more // LANES) > -(-lanes // LANES)
