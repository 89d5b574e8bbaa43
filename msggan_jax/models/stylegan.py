"""MSG-StyleGAN's generator (paper, section 3.1; details: official code)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import folded
from msggan_jax.models import labels as class_labels
from msggan_jax.models.layers import (
  Conv,
  Dense,
  State,
  at_least_float32,
  blur,
  instance_norm,
  leaky_relu,
  level_scope,
  num_channels,
  pixel_norm,
  rematerialized,
)
from msggan_jax.models.precision import FLOAT32, Precision
from msggan_jax.models.pyramid import Pyramid, resolutions_up_to
from msggan_jax.models.stddev import BatchMean

MAPPING_LR_MULTIPLIER = 0.01
W_AVG_DECAY = 0.995


class Generator(nnx.Module):
  """Maps a latent to w, and w to one image per connected scale.

  Args:
    resolution: Side of the largest image, in pixels; a power of two >= 4.
    scales: Resolutions of the images, low to high (paper, Table 4).
    channels: Channels of the images.
    num_classes: Classes of a conditional generator; 0: unconditional.
    latent_size: Length of z.
    w_size: Length of w.
    mapping_size: Width of the mapping network between z and w.
    mapping_layers: Dense layers of the mapping network.
    base_channels: Width at resolution r is base_channels / r, ...
    max_channels: ... but at most this.
    linear_gain: Gain of `to_rgb`.
    remat_from: Lowest resolution that recomputes, see `rematerialized`.
    folding: Whether narrow levels and their images are folded, see `folded`.
    precision: Of the blocks' 3x3 convolutions and of their activations.
    rngs: Source of the initial weights and of the stored noise maps.
  """

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    num_classes: int,
    latent_size: int,
    w_size: int,
    mapping_size: int,
    mapping_layers: int,
    base_channels: int,
    max_channels: int,
    linear_gain: float = 1.0,
    remat_from: int = 0,
    folding: bool = False,
    precision: Precision = FLOAT32,
    rngs: nnx.Rngs,
  ):
    self.resolutions = resolutions_up_to(resolution)
    self.scales = scales
    self.remat_from = remat_from
    self.label_embedding = class_labels.make_embedding(
      num_classes, latent_size, rngs
    )
    self.mapping = Mapping(
      latent_size * (2 if num_classes else 1),
      mapping_size,
      w_size,
      num_layers=mapping_layers,
      rngs=rngs,
    )
    self.w_avg = State(jnp.zeros((w_size,)))
    in_channels = None  # 4x4 has a constant instead of an input
    for r in self.resolutions:
      width = num_channels(r, base_channels, max_channels)
      fold = folded.best_fold(r, width) if folding else 1
      block = Block(
        in_channels,
        width,
        resolution=r,
        fold=fold,
        w_size=w_size,
        precision=precision,
        rngs=rngs,
      )
      # An nnx.Dict would add its own name to the paths of the weights.
      setattr(self, f"block_{r}x{r}", block)
      if r in scales:
        to_rgb = Conv(
          width,
          channels,
          kernel_size=1,
          gain=linear_gain,
          fold=fold,
          rngs=rngs,
        )
        setattr(self, f"to_rgb_{r}x{r}", to_rgb)
      in_channels = width

  def __call__(
    self,
    z: jax.Array,
    labels: jax.Array | None = None,
    *,
    noise: jax.Array | None = None,
    batch_mean: BatchMean | None = None,
  ) -> Pyramid:
    """Generate images at every connected scale, without truncation.

    Args:
      z: Latents, (B, latent_size).
      labels: Class indices, (B,), if conditional.
      noise: Keys, (B,), one per example; None: the stored noise maps.
      batch_mean: Mean over the global batch, in training: updates the average
        of w.

    Returns:
      Images per scale, low to high, (B, r, r, channels), about [-1, 1]. The
      linear output may overshoot. With folding, those of narrow levels are
      folded.
    """
    w = self.map_latents(z, labels)
    if batch_mean is not None:
      mean = batch_mean(w)[0]
      self.w_avg[...] = mean + (self.w_avg[...] - mean) * W_AVG_DECAY
    return self.synthesize(w, noise)

  def map_latents(
    self, z: jax.Array, labels: jax.Array | None = None
  ) -> jax.Array:
    """Map latents, (B, latent_size), to w, (B, w_size)."""
    return self.mapping(class_labels.join(z, labels, self.label_embedding))

  def truncate(
    self, w: jax.Array, psi: jax.Array | float, cutoff: jax.Array | int
  ) -> jax.Array:
    """Move w towards its average in the first layers (StyleGAN, app. B).

    Args:
      w: (B, w_size) or (B, layers, w_size).
      psi: Factor on the distance from the average; 1: no truncation.
      cutoff: Number of truncated layers, from 4x4 up.

    Returns:
      (B, layers, w_size): w_avg + psi (w - w_avg) below the cutoff, else w.
    """
    w = self.for_layers(w)
    first = (jnp.arange(w.shape[1]) < cutoff)[None, :, None]
    average = self.w_avg[...][None, None]
    return jnp.where(first, average + psi * (w - average), w)

  def synthesize(self, w: jax.Array, noise: jax.Array | None = None) -> Pyramid:
    """Generate images from w.

    Args:
      w: (B, w_size) or (B, layers, w_size).
      noise: As in `__call__`.

    Returns:
      As `__call__`.
    """
    w = self.for_layers(w)

    def layer_noise(layer: int) -> jax.Array | None:
      if noise is None:
        return None
      return jax.vmap(jax.random.fold_in, in_axes=(0, None))(noise, layer)

    x = None
    pyramid = []
    for i, r in enumerate(self.resolutions):
      first, second = 2 * i, 2 * i + 1
      block = getattr(self, f"block_{r}x{r}")
      with level_scope(r):
        x = rematerialized(block, r, self.remat_from)(
          x,
          [w[:, first], w[:, second]],
          [layer_noise(first), layer_noise(second)],
        )
        if r in self.scales:
          # `to_rgb` and its images are float32 in every precision.
          pyramid.append(getattr(self, f"to_rgb_{r}x{r}")(x))
    return tuple(pyramid)

  def for_layers(self, w: jax.Array) -> jax.Array:
    """Broadcast w to (B, layers, w_size), two layers per resolution."""
    layers = 2 * len(self.resolutions)
    if w.ndim == 2:
      w = jnp.broadcast_to(w[:, None], (w.shape[0], layers, w.shape[1]))
    if w.ndim != 3 or w.shape[1] != layers:
      raise ValueError(
        f"w has shape {w.shape}; give (B, w_size), or (B, {layers}, w_size) "
        "with one w per layer"
      )
    return w


class Mapping(nnx.Module):
  """The mapping network, z -> w (StyleGAN, section 2).

  Its learning rate is a hundred times lower (StyleGAN, appendix C).
  """

  def __init__(
    self,
    in_size: int,
    hidden_size: int,
    w_size: int,
    *,
    num_layers: int,
    rngs: nnx.Rngs,
  ):
    self.num_layers = num_layers
    for i in range(num_layers):
      size = w_size if i == num_layers - 1 else hidden_size
      dense = Dense(
        in_size, size, lr_multiplier=MAPPING_LR_MULTIPLIER, rngs=rngs
      )
      # An nnx.List would change the names of the weights.
      setattr(self, f"dense_{i}", dense)
      in_size = size

  def __call__(self, z: jax.Array) -> jax.Array:
    """Map z, (B, in_size), to w, (B, w_size)."""
    x = pixel_norm(z)
    for i in range(self.num_layers):
      x = leaky_relu(getattr(self, f"dense_{i}")(x))
    return x


class Block(nnx.Module):
  """Two style layers; at 4x4 a constant is the input (StyleGAN, fig. 1b).

  Args:
    in_channels: C of the block below; None: a learned constant is the input.
    out_channels: C of the output.
    resolution: Side of the output, in pixels.
    fold: Fold of the output.
    w_size: Length of w.
    precision: Of the blocks' 3x3 convolutions and of their activations.
    rngs: Source of the initial weights.
  """

  def __init__(
    self,
    in_channels: int | None,
    out_channels: int,
    *,
    resolution: int,
    fold: int,
    w_size: int,
    precision: Precision,
    rngs: nnx.Rngs,
  ):
    self.precision = precision
    if in_channels is None:
      ones = jnp.ones((resolution, resolution, out_channels))
      self.constant = nnx.Param(ones)
    else:
      self.constant = None
    layer = functools.partial(
      StyleLayer,
      out_channels=out_channels,
      resolution=resolution,
      fold=fold,
      w_size=w_size,
      precision=precision,
      rngs=rngs,
    )
    self.layer_0 = layer(in_channels)
    self.layer_1 = layer(out_channels)

  def __call__(
    self,
    x: jax.Array | None,
    w: Sequence[jax.Array],
    noise: Sequence[jax.Array | None],
  ) -> jax.Array:
    """Map (B, H/2, W/2, in_channels) to (B, H, W, out_channels).

    Args:
      x: Activations of the block below; None at 4x4.
      w: For each layer, (B, w_size).
      noise: For each layer, keys, (B,), or None for the stored map.
    """
    if self.constant is None:
      x = blur(self.layer_0.conv.after_upsampling(x))
    else:
      constant = self.constant[...]
      x = jnp.broadcast_to(constant[None], (len(w[0]), *constant.shape))
      x = self.precision.cast(x)
    x = self.layer_0.finish(x, w[0], noise[0])
    return self.layer_1.finish(self.layer_1.conv(x), w[1], noise[1])


class StyleLayer(nnx.Module):
  """Convolution, noise, bias, leaky ReLU, AdaIN (StyleGAN, fig. 1b, eq. 1).

  Args:
    in_channels: C of the input; None: no convolution.
    out_channels: C of the output.
    resolution: Side of the output, in pixels.
    fold: Fold of the output.
    w_size: Length of w.
    precision: Of the convolution and the output.
    rngs: Source of the initial weights and of the stored noise map.
  """

  def __init__(
    self,
    in_channels: int | None,
    *,
    out_channels: int,
    resolution: int,
    fold: int,
    w_size: int,
    precision: Precision,
    rngs: nnx.Rngs,
  ):
    if in_channels is None:
      self.conv = None
    else:
      self.conv = Conv(
        in_channels,
        out_channels,
        kernel_size=3,
        use_bias=False,
        fold=fold,
        precision=precision,
        rngs=rngs,
      )
    shape = (resolution, resolution)
    self.noise = State(jax.random.normal(rngs.params(), shape))
    self.noise_weight = nnx.Param(jnp.zeros((out_channels,)))
    self.bias = nnx.Param(jnp.zeros((out_channels,)))
    self.style = Dense(w_size, 2 * out_channels, gain=1.0, rngs=rngs)

  def finish(
    self, x: jax.Array, w: jax.Array, noise: jax.Array | None
  ) -> jax.Array:
    """Apply noise, bias, leaky ReLU and AdaIN.

    Args:
      x: Output of the convolution, (B, H, W, C), of any fold.
      w: (B, w_size).
      noise: Keys, (B,), or None for the stored map.

    Returns:
      Same shape and dtype as x.
    """
    if noise is None:
      maps = self.noise[...][None]
    else:
      shape = self.noise.shape
      maps = jax.vmap(lambda key: jax.random.normal(key, shape))(noise)
    # Gradients of weight, bias and style are sums over all pixels, too long for
    # bfloat16. XLA fuses the casts, so that x stays bfloat16 in memory.
    f, dtype, sum_dtype = folded.fold_of(x), x.dtype, at_least_float32(x)
    x = x.astype(sum_dtype)
    x += folded.spread(maps.astype(sum_dtype), self.noise_weight[...], f)
    x += folded.per_channel(self.bias[...], f)[None, None, None]
    x = instance_norm(leaky_relu(x.astype(dtype))).astype(sum_dtype)
    scale, shift = (
      folded.per_channel(style, f)[:, None, None]
      for style in jnp.split(self.style(w), 2, axis=-1)
    )
    return (x * (scale + 1) + shift).astype(dtype)
