"""A network of a pyramid: one block at each resolution (paper, section 3)."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import FrozenConfigDict

from msggan_jax.kernels import Kernels
from msggan_jax.kernels.precision import PRECISIONS
from msggan_jax.models.layers import Conv, State
from msggan_jax.models.pyramid import (
  Pyramid,
  connected_scales,
  fade,
  join_images,
  resolutions_up_to,
)


class MultiScale(nnx.Module):
  """The blocks and scales that G and D share.

  Attributes:
    config: The fields that shape the networks.
    forms: The kernels.
    resolutions: Of the blocks, low to high.
    scales: Of the images, low to high (paper, Table 4).
    with_rgb: Resolutions with `to_rgb` or `from_rgb` in a growing network.
    faded: That of the image which a growing network fades from; 0: none.
    alpha: Of a growing network: the weight of its largest level, ().
    precision: Of the blocks' 3x3 convolutions and of their activations.
  """

  def __init__(self, config: FrozenConfigDict, forms: Kernels):
    self.config, self.forms = config, forms
    self.resolutions = resolutions_up_to(config.resolution)
    self.scales = connected_scales(config.resolution, config.connected_scales)
    self.precision = PRECISIONS[config.precision]
    first, r = config.grow_from, config.resolution
    self.with_rgb = tuple(s for s in self.resolutions if s >= first > 0)
    self.faded = r // 2 if r // 2 in self.with_rgb else 0
    # The training step sets it, and it stays with the weights.
    self.alpha = State(jnp.ones(())) if first else None

  def width(self, resolution: int) -> int:
    """Return the width of the layers at a resolution."""
    return num_channels(self.config, resolution)

  def run_block(self, resolution: int, *args: Any, **options: Any) -> Any:
    """Run the block at a resolution.

    From `remat_from` up, only its arguments stay in memory: the backward pass
    recomputes its activations.
    """
    block = functools.partial(self.at("block", resolution), **options)
    lowest = self.config.remat_from
    # Training resolves "auto" first; without derivatives it has no effect.
    if lowest not in (0, "auto") and resolution >= lowest:
      block = jax.checkpoint(block)
    return block(*args)

  def at(self, name: str, resolution: int) -> Any:
    """Return a module of a resolution, such as block_64x64."""
    return getattr(self, f"{name}_{resolution}x{resolution}")

  def set_at(self, name: str, resolution: int, module: nnx.Module) -> None:
    """Name a module by its resolution."""
    # An nnx.Dict would add its own name to the paths of the weights.
    setattr(self, f"{name}_{resolution}x{resolution}", module)


class MultiScaleGenerator(MultiScale):
  """A generator whose blocks get an image from `to_rgb` at each scale."""

  def __init__(self, config: FrozenConfigDict, forms: Kernels, rngs: nnx.Rngs):
    super().__init__(config, forms)
    if config.num_classes:
      shape = (config.num_classes, config.latent_size)
      vectors = jax.random.normal(rngs.params(), shape)
      self.label_embedding = nnx.Param(vectors)
    else:
      self.label_embedding = None

  def set_level(
    self, resolution: int, block: nnx.Module, rngs: nnx.Rngs
  ) -> None:
    """Add a block, and `to_rgb` if the scale is connected."""
    config = self.config
    self.set_at("block", resolution, block)
    if resolution in (self.with_rgb or self.scales):
      # An exact pyramid's details have the mean 0: a bias would cancel.
      is_detail = config.pyramid == "exact" and resolution > self.scales[0]
      to_rgb = Conv(
        self.width(resolution),
        config.channels,
        kernel_size=1,
        use_bias=not is_detail,
        gain=config.linear_gain,
        equalized=config.equalized,
        forms=self.forms,
        rngs=rngs,
      )
      self.set_at("to_rgb", resolution, to_rgb)

  @property
  def input_size(self) -> int:
    """Return the length of a latent with the vector of its label."""
    return self.config.latent_size * (2 if self.config.num_classes else 1)

  def join(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    """Concatenate each latent with the vector of its label (official code).

    Returns (B, input_size).
    """
    if self.label_embedding is None:
      return z
    return jnp.concatenate([z, self.label_embedding[...][labels]], axis=-1)

  def run(
    self,
    resolutions: Iterable[int],
    x: jax.Array | None,
    styles: Iterable[tuple] = itertools.repeat(()),
  ) -> tuple[jax.Array, list[jax.Array]]:
    """Run successive blocks.

    Args:
      resolutions: Those of the blocks.
      x: Activations of the block below, (B, H/2, W/2, C); at 4x4 the input.
      styles: Other arguments of each block.

    Returns:
      Activations, (B, H, W, C), and the images of the scales on the way.
    """
    below, images = None, []
    for r, style in zip(resolutions, styles, strict=False):
      with level_scope(r):
        x = self.run_block(r, x, *style)
        if r == self.faded:
          below = self._image(r, x)
        elif r in self.scales:
          image = self._image(r, x)
          if below is not None:
            image = fade(self.alpha[...], image, below)
          images.append(image)
    return x, images

  def _image(self, resolution: int, x: jax.Array) -> jax.Array:
    # `to_rgb` and its images are float32 in every precision.
    image = self.at("to_rgb", resolution)(x)
    if self.config.output_activation == "tanh":
      image = jax.tree.map(jnp.tanh, image)
    return image

  def run_all(self, *args: Any) -> Pyramid:
    """Run all blocks; arguments as `run`'s from x on."""
    _, images = self.run(self.resolutions, *args)
    return self.join_images(images)

  def join_images(self, images: Sequence[jax.Array]) -> Pyramid:
    """Make the pyramid of the images of `to_rgb`, low to high."""
    return join_images(images, self.config.pyramid, self.forms.downsample)


def num_channels(config: Any, resolution: int) -> int:
  """Return the width of the layers at a resolution (paper, Tables 6 and 7)."""
  return max(1, min(config.base_channels // resolution, config.max_channels))


def level_scope(resolution: int):
  """Name a level in compiled programs and profiles, such as level_64."""
  return jax.named_scope(f"level_{resolution}")
