"""R3GAN's simplified networks carried to the pyramid, for results.md.

  python -m benchmarks.residual_networks --config=... --workdir=...

is `python -m msggan_jax.main` with them in the place of MSG-ProGAN's: residual
blocks, no normalization (neither pixel norm nor minibatch stddev), `to_rgb` at
every scale, phi before every block of the discriminator. Unlike R3GAN they
keep the equalized learning rate, so that MSG-ProGAN's rates apply, and their
3x3 convolutions have no groups.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.models import discriminator, progan
from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.discriminator import Combine
from msggan_jax.models.layers import (
  LRELU_GAIN,
  Dense,
  Layer,
  leaky_relu,
  num_channels,
)
from msggan_jax.models.pyramid import (
  Pyramid,
  downsample,
  resolution_of,
  resolutions_up_to,
  upsample,
)

BLOCKS = 2  # per scale, as in R3GAN's code


class ResidualBlock(nnx.Module):
  """x + conv(f(conv(f(conv(x))))), kernels 1x1, 3x3, 1x1 (Huang et al. 2024).

  Args:
    width: C of the input and the output.
    num_blocks: Residual blocks of the network: with Fix-up's initialization
      the output's variance does not grow with them.
    rngs: Source of the initial weights.
  """

  def __init__(self, width: int, num_blocks: int, *, rngs: nnx.Rngs):
    gain = LRELU_GAIN * num_blocks**-0.25  # three layers: L^(-1 / (2 * 3 - 2))
    self.conv_0 = Conv(width, width, kernel_size=1, gain=gain, rngs=rngs)
    self.conv_1 = Conv(width, width, kernel_size=3, gain=gain, rngs=rngs)
    self.conv_2 = Conv(width, width, kernel_size=1, gain=1.0, rngs=rngs)
    self.conv_2.kernel[...] = jnp.zeros_like(self.conv_2.kernel[...])

  def __call__(self, x: jax.Array) -> jax.Array:
    """Map (B, H, W, width) to the same shape."""
    y = leaky_relu(self.conv_0(x))
    return x + self.conv_2(leaky_relu(self.conv_1(y)))


class Level(nnx.Module):
  """The layers of one resolution, after resampling.

  Args:
    blocks: `BLOCKS` residual blocks.
    skip: 1x1 convolution to their width; None: the input has it.
    phi: Joins this scale's image; None: no image enters.
  """

  def __init__(
    self,
    blocks: list[ResidualBlock],
    *,
    skip: Conv | None,
    phi: Combine | None = None,
  ):
    self.skip, self.phi = skip, phi
    for i, block in enumerate(blocks):
      setattr(self, f"block_{i}", block)

  def __call__(self, x: jax.Array, image: jax.Array | None = None) -> jax.Array:
    """Map (B, r, r, in_channels) to (B, r, r, width)."""
    x = x if self.skip is None else self.skip(x)
    x = x if self.phi is None else self.phi(image, x)
    for i in range(BLOCKS):
      x = getattr(self, f"block_{i}")(x)
    return x


class Generator(nnx.Module):
  """Maps a latent to one image per scale; arguments as MSG-ProGAN's."""

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    latent_size: int,
    base_channels: int,
    max_channels: int,
    rngs: nnx.Rngs,
    **_: Any,
  ):
    self.resolutions, self.scales = resolutions_up_to(resolution), scales
    self.normalize_latents = False
    width = num_channels(4, base_channels, max_channels)
    self.basis = nnx.Param(jax.random.normal(rngs.params(), (4, 4, width)))
    self.dense = Dense(latent_size, width, gain=1.0, use_bias=False, rngs=rngs)
    for r in self.resolutions:
      previous, width = width, num_channels(r, base_channels, max_channels)
      blocks = _make_blocks(width, len(self.resolutions), rngs)
      level = Level(blocks, skip=_make_skip(previous, width, rngs))
      setattr(self, f"level_{r}x{r}", level)
      if r in scales:
        to_rgb = Conv(width, channels, kernel_size=1, gain=1.0, rngs=rngs)
        setattr(self, f"to_rgb_{r}x{r}", to_rgb)

  def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> Pyramid:
    """Generate images, (B, r, r, channels) each, from z, (B, latent_size)."""
    del labels
    x = self.basis[...] * self.dense(z)[:, None, None, :]
    images = []
    for r in self.resolutions:
      x = getattr(self, f"level_{r}x{r}")(x if r == 4 else upsample(x))
      if r in self.scales:
        images.append(getattr(self, f"to_rgb_{r}x{r}")(x))
    return tuple(images)


class Discriminator(nnx.Module):
  """Scores a pyramid; arguments as `discriminator.Discriminator`'s."""

  def __init__(
    self,
    *,
    resolution: int,
    scales: tuple[int, ...],
    channels: int,
    base_channels: int,
    max_channels: int,
    rngs: nnx.Rngs,
    **_: Any,
  ):
    self.resolutions, self.scales = resolutions_up_to(resolution), scales
    width = num_channels(resolution, base_channels, max_channels)
    self.from_rgb = Conv(channels, width, kernel_size=1, gain=1.0, rngs=rngs)

    def conv(*sizes, **options):
      return Conv(*sizes, **options | {"gain": 1.0}, rngs=rngs)

    for r in reversed(self.resolutions):
      previous, width = width, num_channels(r, base_channels, max_channels)
      phi = None
      if r != resolution and r in scales:
        phi = Combine(
          "cat_lin",
          image_channels=channels,
          width=width,
          linear_gain=1.0,
          conv=conv,
        )
      skip = _make_skip(previous, width, rngs)
      blocks = _make_blocks(width, len(self.resolutions), rngs)
      setattr(self, f"level_{r}x{r}", Level(blocks, skip=skip, phi=phi))
    # A depthwise convolution of all 4x4 pixels, and the score.
    self.depthwise = Layer(
      (4, 4, width),
      fan_in=16,
      out_channels=width,
      gain=1.0,
      use_bias=False,
      rngs=rngs,
    )
    self.score = Dense(width, 1, gain=1.0, use_bias=False, rngs=rngs)

  def __call__(
    self, pyramid: Pyramid, labels: jax.Array | None = None, **_: Any
  ) -> jax.Array:
    """Return logits, (B,), of images low to high, (B, r, r, channels)."""
    images = {resolution_of(image): image for image in pyramid}
    x = None
    for r in reversed(self.resolutions):
      x = self.from_rgb(images[r]) if x is None else downsample(x)
      x = getattr(self, f"level_{r}x{r}")(x, images.get(r))
    x = jnp.sum(x * self.depthwise.scaled_kernel(), axis=(1, 2))
    return self.score(x)[:, 0]


def _make_skip(in_channels: int, width: int, rngs: nnx.Rngs) -> Conv | None:
  if in_channels == width:
    return None
  return Conv(
    in_channels, width, kernel_size=1, gain=1.0, use_bias=False, rngs=rngs
  )


def _make_blocks(
  width: int, num_levels: int, rngs: nnx.Rngs
) -> list[ResidualBlock]:
  return [
    ResidualBlock(width, BLOCKS * num_levels, rngs=rngs) for _ in range(BLOCKS)
  ]


@contextlib.contextmanager
def installed() -> Iterator[None]:
  """Let `networks` build these networks for `config.model="progan"`."""
  others = progan.Generator, discriminator.Discriminator
  progan.Generator, discriminator.Discriminator = Generator, Discriminator
  try:
    yield
  finally:
    progan.Generator, discriminator.Discriminator = others


if __name__ == "__main__":
  from msggan_jax import main
  from msggan_jax.runtime import cli

  with installed():
    cli.run(main.main)
