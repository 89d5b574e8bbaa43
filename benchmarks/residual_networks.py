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
      for name, layer in _blocks(width, len(self.resolutions), rngs).items():
        setattr(self, f"{name}_{r}x{r}", layer)
      if width != previous:
        skip = Conv(
          previous, width, kernel_size=1, gain=1.0, use_bias=False, rngs=rngs
        )
        setattr(self, f"skip_{r}x{r}", skip)
      if r in scales:
        to_rgb = Conv(width, channels, kernel_size=1, gain=1.0, rngs=rngs)
        setattr(self, f"to_rgb_{r}x{r}", to_rgb)

  def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> Pyramid:
    """Generate images, (B, r, r, channels) each, from z, (B, latent_size)."""
    del labels
    x = self.basis[...] * self.dense(z)[:, None, None, :]
    images = []
    for r in self.resolutions:
      x = x if r == 4 else upsample(x)
      if (skip := getattr(self, f"skip_{r}x{r}", None)) is not None:
        x = skip(x)
      for i in range(BLOCKS):
        x = getattr(self, f"block_{i}_{r}x{r}")(x)
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
      if r != resolution and r in scales:
        phi = Combine(
          "cat_lin",
          image_channels=channels,
          width=width,
          linear_gain=1.0,
          conv=conv,
        )
        setattr(self, f"phi_{r}x{r}", phi)
      if width != previous:
        skip = Conv(
          previous, width, kernel_size=1, gain=1.0, use_bias=False, rngs=rngs
        )
        setattr(self, f"skip_{r}x{r}", skip)
      for name, layer in _blocks(width, len(self.resolutions), rngs).items():
        setattr(self, f"{name}_{r}x{r}", layer)
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
      if (skip := getattr(self, f"skip_{r}x{r}", None)) is not None:
        x = skip(x)
      if (phi := getattr(self, f"phi_{r}x{r}", None)) is not None:
        x = phi(images[r], x)
      for i in range(BLOCKS):
        x = getattr(self, f"block_{i}_{r}x{r}")(x)
    x = jnp.sum(x * self.depthwise.scaled_kernel(), axis=(1, 2))
    return self.score(x)[:, 0]


def _blocks(width: int, num_scales: int, rngs: nnx.Rngs) -> dict[str, Any]:
  num = BLOCKS * num_scales
  return {
    f"block_{i}": ResidualBlock(width, num, rngs=rngs) for i in range(BLOCKS)
  }


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
