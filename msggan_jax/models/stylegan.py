"""MSG-StyleGAN's generator (paper, section 3.1; the official code's facts)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import labels as class_labels
from msggan_jax.models.layers import (
  Conv,
  Dense,
  State,
  at_least_float32,
  blur,
  instance_norm,
  leaky_relu,
  num_channels,
  pixel_norm,
  rematerialized,
  resolutions_up_to,
)
from msggan_jax.models.pyramid import Pyramid
from msggan_jax.models.stddev import BatchMean

MAPPING_LR_MULTIPLIER = 0.01
W_AVG_DECAY = 0.995


class Generator(nnx.Module):
  """Turns a latent into w, and w into one image per connected scale."""

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
    dtype: jnp.dtype | None = None,
    rngs: nnx.Rngs,
  ):
    """Create the generator.

    Args:
      resolution: Side of the largest image, in pixels; a power of two >= 4.
      scales: Resolutions that get an image, low to high (paper, Table 4).
      channels: Channels of the images.
      num_classes: Classes of a conditional generator; 0: unconditional.
      latent_size: Length of z.
      w_size: Length of w.
      mapping_size: Width of the mapping network between z and w.
      mapping_layers: Dense layers of the mapping network.
      base_channels: Width at resolution r is base_channels / r, ...
      max_channels: ... but at most this.
      linear_gain: Gain of `to_rgb`.
      remat_from: See `rematerialized`.
      dtype: Type of the activations; None: that of w.
      rngs: Source of the initial weights and of the stored noise maps.
    """
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
    in_channels = None  # 4x4 starts from its constant.
    for r in self.resolutions:
      width = num_channels(r, base_channels, max_channels)
      block = Block(in_channels, width, r, w_size, dtype=dtype, rngs=rngs)
      setattr(self, f"block_{r}x{r}", block)
      if r in scales:
        to_rgb = Conv(width, channels, 1, gain=linear_gain, rngs=rngs)
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
      labels: Classes, (B,), of a conditional generator.
      noise: Keys, (B,), to draw each example's noise from; None: the stored
        maps.
      batch_mean: In training, the mean over the global batch; it moves the
        average of w.

    Returns:
      Images per scale, low to high, (B, r, r, channels), linear: about
      [-1, 1], but not bounded.
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
    """Move w towards its average in the first layers (StyleGAN, appendix B).

    Args:
      w: (B, w_size), or (B, layers, w_size) with one for each layer.
      psi: What is left of the distance from the average; 1: all.
      cutoff: How many layers, from 4x4 up.

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
      w: (B, w_size), or (B, layers, w_size) with one for each layer.
      noise: As in `__call__`.

    Returns:
      As `__call__`.
    """
    w = self.for_layers(w)

    def keys_of(layer: int) -> jax.Array | None:
      if noise is None:
        return None
      return jax.vmap(jax.random.fold_in, in_axes=(0, None))(noise, layer)

    x = None
    pyramid = []
    for i, r in enumerate(self.resolutions):
      layers = 2 * i, 2 * i + 1
      block = getattr(self, f"block_{r}x{r}")
      block = rematerialized(block, r, self.remat_from)
      x = block(x, [w[:, i] for i in layers], [keys_of(i) for i in layers])
      if r in self.scales:
        # Images leave the network in float32 whatever the activations are.
        x32 = x.astype(at_least_float32(x))
        pyramid.append(getattr(self, f"to_rgb_{r}x{r}")(x32))
    return tuple(pyramid)

  def for_layers(self, w: jax.Array) -> jax.Array:
    """Give every layer its w: (B, layers, w_size), two layers a resolution."""
    layers = 2 * len(self.resolutions)
    if w.ndim == 2:
      w = jnp.broadcast_to(w[:, None], (w.shape[0], layers, w.shape[1]))
    if w.ndim != 3 or w.shape[1] != layers:
      raise ValueError(
        f"w has shape {w.shape}; it must be (B, w_size) or (B, {layers}, "
        "w_size), one for each layer"
      )
    return w


class Mapping(nnx.Module):
  """The mapping network, z -> w (StyleGAN, section 2)."""

  def __init__(
    self,
    in_size: int,
    hidden_size: int,
    w_size: int,
    *,
    num_layers: int,
    rngs: nnx.Rngs,
  ):
    """Create the dense layers, which learn a hundred times slower."""
    self.num_layers = num_layers
    for i in range(num_layers):
      size = w_size if i == num_layers - 1 else hidden_size
      dense = Dense(
        in_size, size, lr_multiplier=MAPPING_LR_MULTIPLIER, rngs=rngs
      )
      setattr(self, f"dense_{i}", dense)
      in_size = size

  def __call__(self, z: jax.Array) -> jax.Array:
    """Map z, (B, in_size), to w, (B, w_size)."""
    x = pixel_norm(z)
    for i in range(self.num_layers):
      x = leaky_relu(getattr(self, f"dense_{i}")(x))
    return x


class Block(nnx.Module):
  """The two layers of a resolution; at 4x4 the first one is a constant."""

  def __init__(
    self,
    in_channels: int | None,
    out_channels: int,
    resolution: int,
    w_size: int,
    *,
    dtype,
    rngs: nnx.Rngs,
  ):
    """Create the block; without `in_channels`, with a learned constant."""
    self.dtype = dtype
    self.constant = (
      nnx.Param(jnp.ones((resolution, resolution, out_channels)))
      if in_channels is None
      else None
    )
    sizes = (out_channels, resolution, w_size)
    options = {"dtype": dtype, "rngs": rngs}
    self.layer_0 = StyleLayer(in_channels, *sizes, **options)
    self.layer_1 = StyleLayer(out_channels, *sizes, **options)

  def __call__(
    self,
    x: jax.Array | None,
    w: Sequence[jax.Array],
    noise: Sequence[jax.Array | None],
  ) -> jax.Array:
    """Map (B, H/2, W/2, in_channels) to (B, H, W, out_channels).

    Args:
      x: Activations of the block below; None at 4x4.
      w: (B, w_size), of each of the two layers.
      noise: Keys, (B,), or None for the stored map; of each layer.
    """
    if self.constant is None:
      x = blur(self.layer_0.conv.after_upsampling(x))
    else:
      constant = self.constant[...].astype(self.dtype or w[0].dtype)
      x = jnp.broadcast_to(constant[None], (len(w[0]), *constant.shape))
    x = self.layer_0.finish(x, w[0], noise[0])
    return self.layer_1.finish(self.layer_1.conv(x), w[1], noise[1])


class StyleLayer(nnx.Module):
  """A convolution and what follows: noise, bias, lrelu, norm and style."""

  def __init__(
    self,
    in_channels: int | None,
    out_channels: int,
    resolution: int,
    w_size: int,
    *,
    dtype,
    rngs: nnx.Rngs,
  ):
    """Create the layer; `in_channels` None: without a convolution."""
    self.conv = (
      Conv(
        *(in_channels, out_channels, 3), use_bias=False, dtype=dtype, rngs=rngs
      )
      if in_channels
      else None
    )
    shape = (resolution, resolution)
    self.noise = State(jax.random.normal(rngs.params(), shape))
    self.noise_weight = nnx.Param(jnp.zeros((out_channels,)))
    self.bias = nnx.Param(jnp.zeros((out_channels,)))
    self.style = Dense(w_size, 2 * out_channels, gain=1.0, rngs=rngs)

  def finish(
    self, x: jax.Array, w: jax.Array, noise: jax.Array | None
  ) -> jax.Array:
    """Apply all that follows the convolution.

    Args:
      x: (B, H, W, C).
      w: (B, w_size).
      noise: Keys, (B,), or None for the stored map.
    """
    if noise is None:
      maps = self.noise[...][None]
    else:
      shape = self.noise.shape
      maps = jax.vmap(lambda key: jax.random.normal(key, shape))(noise)
    weight = self.noise_weight[...].astype(x.dtype)[None, None, None]
    x += maps.astype(x.dtype)[..., None] * weight
    x += self.bias[...].astype(x.dtype)[None, None, None]
    x = instance_norm(leaky_relu(x))
    scale, shift = jnp.split(self.style(w).astype(x.dtype), 2, axis=-1)
    return x * (scale[:, None, None] + 1) + shift[:, None, None]
