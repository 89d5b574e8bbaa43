"""MSG-StyleGAN's generator (paper, section 3.1; details: official code)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import folded
from msggan_jax.models import labels as class_labels
from msggan_jax.models.base_grid import image_size
from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.layers import (
  Dense,
  State,
  leaky_relu,
  level_scope,
  num_channels,
  pixel_norm,
  rematerialized,
)
from msggan_jax.models.precision import FLOAT32, Precision
from msggan_jax.models.pyramid import Pyramid, resolutions_up_to
from msggan_jax.models.stddev import BatchMean
from msggan_jax.models.style_block import Block

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
    base_grid: Height and width of the smallest images.
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
    base_grid: tuple[int, int] = (4, 4),
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
      fold = folded.best_fold(r, width, folding)
      block = Block(
        in_channels,
        width,
        size=image_size(r, base_grid),
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

  def synthesize(
    self,
    w: jax.Array,
    noise: jax.Array | None = None,
    maps: Sequence[jax.Array] | None = None,
  ) -> Pyramid:
    """Generate images from w.

    Args:
      w: (B, w_size) or (B, layers, w_size).
      noise: As in `__call__`.
      maps: Instead of `noise`: a map for each layer, (B, r, r).

    Returns:
      As `__call__`.
    """
    w = self.for_layers(w)
    layers = [None] * w.shape[1] if maps is None else maps
    if noise is not None:
      fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
      layers = [fold(noise, layer) for layer in range(w.shape[1])]
    x = None
    pyramid = []
    for i, r in enumerate(self.resolutions):
      first, second = 2 * i, 2 * i + 1
      x, image = self.grow(
        r,
        x,
        [w[:, first], w[:, second]],
        [layers[first], layers[second]],
      )
      if image is not None:
        pyramid.append(image)
    return tuple(pyramid)

  def grow(
    self,
    resolution: int,
    x: jax.Array | None,
    w: Sequence[jax.Array],
    noise: Sequence[jax.Array | None],
  ) -> tuple[jax.Array, jax.Array | None]:
    """Run one block.

    Args:
      resolution: Resolution of the block.
      x: Activations of the block below, (B, H/2, W/2, C); None at 4x4.
      w: For each of its two layers, (B, w_size).
      noise: For each layer, keys, (B,), maps, (B, r, r), or None for the stored
        map.

    Returns:
      Activations, (B, H, W, C), and the image, (B, H, W, channels); None if
      this scale is not connected.
    """
    name = f"{resolution}x{resolution}"
    block = getattr(self, f"block_{name}")
    with level_scope(resolution):
      x = rematerialized(block, resolution, self.remat_from)(x, w, noise)
      if resolution not in self.scales:
        return x, None
      # `to_rgb` and its images are float32 in every precision.
      return x, getattr(self, f"to_rgb_{name}")(x)

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
