"""A block of MSG-StyleGAN's synthesis, two styled layers (official code)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import folded, folded_convolution
from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.layers import (
  Dense,
  State,
  at_least_float32,
  blur,
  instance_norm,
  leaky_relu,
)
from msggan_jax.models.precision import Precision


class Block(nnx.Module):
  """Two style layers; at 4x4 a constant is the input (StyleGAN, fig. 1b).

  Args:
    in_channels: C of the block below; None: a learned constant is the input.
    out_channels: C of the output.
    size: Height and width of the output, in pixels.
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
    size: tuple[int, int],
    fold: int,
    w_size: int,
    precision: Precision,
    rngs: nnx.Rngs,
  ):
    self.precision = precision
    if in_channels is None:
      ones = jnp.ones((*size, out_channels))
      self.constant = nnx.Param(ones)
    else:
      self.constant = None
    layer = functools.partial(
      StyleLayer,
      out_channels=out_channels,
      size=size,
      fold=fold,
      w_size=w_size,
      precision=precision,
      rngs=rngs,
    )
    self.fold, self.shift = fold, folded.shift_of(fold)
    self.layer_0 = layer(in_channels, shift=self.shift)
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
      noise: For each layer, keys, (B,), maps, (B, H, W), or None for the stored
        map.
    """
    if self.constant is None:
      x = self.layer_0.conv.after_upsampling(x)
      x = blur(x, self.fold, self.shift)
    else:
      constant = self.constant[...]
      x = jnp.broadcast_to(constant[None], (w[0].shape[0], *constant.shape))
      x = self.precision.cast(x)
    x = self.layer_0.finish(x, w[0], noise[0])
    return self.layer_1.finish(self.layer_1.conv(x), w[1], noise[1])


class StyleLayer(nnx.Module):
  """Convolution, noise, bias, leaky ReLU, AdaIN (StyleGAN, fig. 1b, eq. 1).

  Args:
    in_channels: C of the input; None: no convolution.
    out_channels: C of the output.
    size: Height and width of the output, in pixels.
    fold: Fold of the output.
    w_size: Length of w.
    precision: Of the convolution and the output.
    shift: Of the convolution's output, see `folded`.
    rngs: Source of the initial weights and of the stored noise map.
  """

  def __init__(
    self,
    in_channels: int | None,
    *,
    out_channels: int,
    size: tuple[int, int],
    fold: int,
    w_size: int,
    precision: Precision,
    shift: int = 0,
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
        shifts=(0, shift),
        precision=precision,
        rngs=rngs,
      )
    self.noise = State(jax.random.normal(rngs.params(), size))
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
      noise: Keys, (B,), maps, (B, H, W), or None for the stored map.

    Returns:
      Same shape and dtype as x.
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
    f, dtype, sum_dtype = folded.fold_of(x), x.dtype, at_least_float32(x)
    x = x.astype(sum_dtype)
    x += folded_convolution.spread(
      maps.astype(sum_dtype), self.noise_weight[...], f
    )
    x += folded.per_channel(self.bias[...], f)[None, None, None]
    x = instance_norm(leaky_relu(x.astype(dtype))).astype(sum_dtype)
    scale, shift = (
      folded.per_channel(style, f)[:, None, None]
      for style in jnp.split(self.style(w), 2, axis=-1)
    )
    return (x * (scale + 1) + shift).astype(dtype)
