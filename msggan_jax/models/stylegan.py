"""MSG-StyleGAN's generator (paper, section 3.1; details: official code)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import FrozenConfigDict

from msggan_jax.kernels import (
  Kernels,
  blur,
  instance_norm,
  leaky_relu,
  per_channel,
  weighted_noise,
)
from msggan_jax.kernels.plain import pixel_norm
from msggan_jax.kernels.precision import at_least_float32
from msggan_jax.models import base_grid
from msggan_jax.models.layers import Conv, Dense, State, normalize_latents
from msggan_jax.models.multi_scale import MultiScaleGenerator
from msggan_jax.models.pyramid import Pyramid
from msggan_jax.models.stddev import BatchMean

MAPPING_LR_MULTIPLIER = 0.01
W_AVG_DECAY = 0.995
_MIXING = 2**31 - 1  # among the numbers of layers


class Generator(MultiScaleGenerator):
  """Maps a latent to w, and w to one image per connected scale."""

  def __init__(self, config: FrozenConfigDict, forms: Kernels, rngs: nnx.Rngs):
    super().__init__(config, forms, rngs)
    self.mapping = Mapping(
      self.input_size,
      config.mapping_size,
      config.w_size,
      num_layers=config.mapping_layers,
      rngs=rngs,
    )
    self.w_avg = State(jnp.zeros((config.w_size,)))
    grid = base_grid.parse(config.base_grid)
    in_channels = None  # 4x4 has a constant instead of an input
    for r in self.resolutions:
      block = Block(
        in_channels,
        self.width(r),
        size=base_grid.image_size(r, grid),
        w_size=config.w_size,
        conv=functools.partial(
          Conv, precision=self.precision, forms=forms, rngs=rngs
        ),
      )
      self.set_level(r, block, rngs)
      in_channels = self.width(r)

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
        of w and mixes styles.

    Returns:
      Images, low to high, (B, r, r, channels), about [-1, 1] or beyond.
    """
    w = self.map_latents(z, labels)
    if batch_mean is not None:
      mean = batch_mean(w)[0]
      self.w_avg[...] = mean + (self.w_avg[...] - mean) * W_AVG_DECAY
      if self.config.style_mixing:
        w = self._mix_styles(w, labels, noise)
    return self.synthesize(w, noise)

  def _mix_styles(
    self, w: jax.Array, labels: jax.Array | None, keys: jax.Array
  ) -> jax.Array:
    """Give some examples another w from a random layer on (StyleGAN, 3.1).

    Returns (B, layers, w_size); the keys, (B,), are those of the noise.
    """
    layers, size = 2 * len(self.resolutions), self.config.latent_size

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
      key = jax.random.fold_in(key, _MIXING)
      mixed, at, latent = jax.random.split(key, 3)
      crossover = jnp.where(
        jax.random.bernoulli(mixed, self.config.style_mixing),
        jax.random.randint(at, (), 1, layers),
        layers,
      )
      return crossover, jax.random.normal(latent, (size,))

    crossover, z = jax.vmap(draw)(keys)
    other = self.for_layers(self.map_latents(normalize_latents(z), labels))
    first = (jnp.arange(layers)[None] < crossover[:, None])[..., None]
    return jnp.where(first, self.for_layers(w), other)

  def map_latents(
    self, z: jax.Array, labels: jax.Array | None = None
  ) -> jax.Array:
    """Map latents, (B, latent_size), to w, (B, w_size)."""
    return self.mapping(self.join(z, labels))

  def truncate(
    self, w: jax.Array, psi: jax.Array | float, cutoff: jax.Array | int
  ) -> jax.Array:
    """Move w toward its average in the first layers (StyleGAN, app. B).

    Of w, (B, w_size) or (B, layers, w_size), returns (B, layers, w_size): w_avg
    + psi (w - w_avg) in the first `cutoff` layers, from 4x4 up, else w.
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
    """Generate images from w, (B, w_size) or (B, layers, w_size).

    `noise` is as in `__call__`; `maps`, instead of it, has a map for each
    layer, (B, r, r).
    """
    w = self.for_layers(w)
    layers = [None] * w.shape[1] if maps is None else maps
    if noise is not None:
      of_layer = jax.vmap(jax.random.fold_in, in_axes=(0, None))
      layers = [of_layer(noise, layer) for layer in range(w.shape[1])]
    pairs = ((2 * i, 2 * i + 1) for i in range(len(self.resolutions)))
    return self.run_all(
      None,
      (([w[:, a], w[:, b]], [layers[a], layers[b]]) for a, b in pairs),
    )

  def for_layers(self, w: jax.Array) -> jax.Array:
    """Broadcast w to (B, layers, w_size), two layers per resolution."""
    layers = 2 * len(self.resolutions)
    if w.ndim == 2:
      w = jnp.broadcast_to(w[:, None], (w.shape[0], layers, w.shape[1]))
    return w


class Block(nnx.Module):
  """Two style layers (StyleGAN, fig. 1b).

  Without `in_channels`, as at 4x4, a learned constant is the input. `size` is
  the height and width of the result, in pixels.
  """

  def __init__(
    self,
    in_channels: int | None,
    out_channels: int,
    *,
    size: tuple[int, int],
    w_size: int,
    conv: functools.partial[Conv],
  ):
    self.precision = conv.keywords["precision"]
    if in_channels is None:
      ones = jnp.ones((*size, out_channels))
      self.constant = nnx.Param(ones)
    else:
      self.constant = None
    layer = functools.partial(
      StyleLayer,
      out_channels=out_channels,
      size=size,
      w_size=w_size,
      conv=conv,
    )
    self.layer_0 = layer(in_channels)
    self.layer_1 = layer(out_channels)

  def __call__(
    self,
    x: jax.Array | None,
    w: Sequence[jax.Array],
    noise: Sequence[jax.Array | None],
  ) -> jax.Array:
    """Map (B, H/2, W/2, in_channels), None at 4x4, to (B, H, W, out_channels).

    `w` has for each of the two layers (B, w_size); `noise` for each keys,
    (B,), maps, (B, r, r), or None for the stored map.
    """
    if self.constant is None:
      x = blur(self.layer_0.conv.after_upsampling(x))
    else:
      constant = self.constant[...]
      x = jnp.broadcast_to(constant[None], (w[0].shape[0], *constant.shape))
      x = self.precision.cast(x)
    x = self.layer_0.finish(x, w[0], noise[0])
    return self.layer_1.finish(self.layer_1.conv(x), w[1], noise[1])


class StyleLayer(nnx.Module):
  """Convolution, noise, bias, leaky ReLU, AdaIN (StyleGAN, fig. 1b, eq. 1).

  Arguments are those of `Block`; without in_channels it has no convolution.
  """

  def __init__(
    self,
    in_channels: int | None,
    *,
    out_channels: int,
    size: tuple[int, int],
    w_size: int,
    conv: functools.partial[Conv],
  ):
    rngs = conv.keywords["rngs"]
    if in_channels is None:
      self.conv = None
    else:
      self.conv = conv(in_channels, out_channels, 3, use_bias=False)
    self.noise = State(jax.random.normal(rngs.params(), size))
    self.noise_weight = nnx.Param(jnp.zeros((out_channels,)))
    self.bias = nnx.Param(jnp.zeros((out_channels,)))
    self.style = Dense(w_size, 2 * out_channels, gain=1.0, rngs=rngs)

  def finish(
    self, x: jax.Array, w: jax.Array, noise: jax.Array | None
  ) -> jax.Array:
    """Apply noise, bias, leaky ReLU and AdaIN to x, (B, H, W, C).

    `w` is (B, w_size), `noise` as in `Block`.
    """
    if noise is None:
      maps = self.noise[...][None]
    elif not jnp.issubdtype(noise.dtype, jax.dtypes.prng_key):
      maps = noise
    else:
      shape = self.noise.shape
      maps = jax.vmap(lambda key: jax.random.normal(key, shape))(noise)
    # Gradients of weight, bias and style are sums over all pixels, too long for
    # bfloat16. XLA fuses the casts, so that x stays bfloat16 in memory.
    dtype, sum_dtype = x.dtype, at_least_float32(x)
    x = x.astype(sum_dtype)
    x = x + weighted_noise(maps.astype(sum_dtype), self.noise_weight[...], x)
    x = x + per_channel(self.bias[...], x)
    x = instance_norm(leaky_relu(x.astype(dtype))).astype(sum_dtype)
    scale, shift = (
      per_channel(style, x) for style in jnp.split(self.style(w), 2, axis=-1)
    )
    return (x * (scale + 1) + shift).astype(dtype)


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
