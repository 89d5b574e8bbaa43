"""Residual networks: a transcription in NumPy, their start, their options.

`tests/kernels/test_folded.py` compares their folded form.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.models import networks
from msggan_jax.models.residual import BLOCKS
from tests.algorithm.runs import random_arrays, small_config

LEVELS = 3
FIXUP = math.sqrt(2) * (LEVELS * BLOCKS) ** -0.25


def residual_config(**changes):
  """Return networks at 16x16, of 6, 6 and 4 channels."""
  config = small_config("msg_residual", resolution=16, batch_size=4)
  config.base_channels, config.max_channels = 64, 6
  config.update(changes)
  return config


def convolve(x, layer, gain):
  """Convolve x, (B, H, W, C), with an equalized kernel and zero padding."""
  kernel = np.asarray(layer["kernel"])
  size = kernel.shape[0]
  h, w = x.shape[1:3]
  x = np.pad(x, ((0, 0), *[(size // 2, size // 2)] * 2, (0, 0)))
  y = sum(
    x[:, i : i + h, j : j + w] @ kernel[i, j]
    for i in range(size)
    for j in range(size)
  )
  y = y * gain / math.sqrt(kernel[..., 0].size)
  return y + np.asarray(layer["bias"]) if "bias" in layer else y


def activate(x):
  return np.where(x > 0, x, 0.2 * x)


def run_blocks(x, blocks):
  for i in range(BLOCKS):
    block = blocks[f"block_{i}"]
    y = activate(convolve(x, block["conv_0"], FIXUP))
    y = activate(convolve(y, block["conv_1"], FIXUP))
    x = x + convolve(y, block["conv_2"], 1)
  return x


def generate(params, z):
  """Return the generator's images at all scales."""
  first = params["block_4x4"]
  weights = z @ np.asarray(first["dense"]["kernel"]) / math.sqrt(z.shape[1])
  x = np.asarray(first["basis"]) * weights[:, None, None]
  images = []
  for r in (4, 8, 16):
    block = params[f"block_{r}x{r}"]
    if r > 4:
      x = x.repeat(2, axis=1).repeat(2, axis=2)
    if "project" in block:
      x = convolve(x, block["project"], 1)
    x = run_blocks(x, block["blocks"])
    images.append(convolve(x, params[f"to_rgb_{r}x{r}"], 1))
  return images


def score(params, images):
  """Return the discriminator's scores, with phi cat_lin."""
  x = convolve(images[-1], params["from_rgb_16x16"], 1)
  for r, image in zip((16, 8, 4), reversed(images), strict=True):
    block = params[f"block_{r}x{r}"]
    if "combine" in block:
      joined = np.concatenate([image, x], axis=-1)
      x = convolve(joined, block["combine"]["conv"], 1)
    x = run_blocks(x, block["blocks"])
    if r > 4:
      x = (x[:, ::2] + x[:, 1::2]) / 2
      x = (x[:, :, ::2] + x[:, :, 1::2]) / 2
    if r == 16:
      x = convolve(x, block["leave"], 1)
  kernel = np.asarray(params["block_4x4"]["leave"]["kernel"])[:, :, 0]
  x = (x * kernel).sum(axis=(1, 2)) / 4  # 16 inputs
  kernel = np.asarray(params["score"]["kernel"])
  y = x @ kernel / math.sqrt(len(kernel))
  return (y + np.asarray(params["score"]["bias"]))[:, 0]


def as_float64(arrays):
  return jax.tree.map(lambda x: x.astype(jnp.float64), arrays)


def test_both_equal_a_transcription(float64):
  config = residual_config()
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  g, d = as_float64((random_arrays(generator), random_arrays(discriminator, 1)))
  z = np.random.default_rng(2).normal(size=(4, config.latent_size))
  pyramid = generator.jitted_apply(*g, jnp.asarray(z))
  expected = generate(g[0], z)
  for ours, image in zip(pyramid, expected, strict=True):
    np.testing.assert_allclose(ours, image, rtol=1e-12, atol=1e-12)
  scores = discriminator.jitted_apply(*d, pyramid)
  np.testing.assert_allclose(scores, score(d[0], expected), rtol=1e-10)


def test_at_the_start_every_block_is_the_identity():
  """Fix-up: the last layer of each residual block starts at 0."""
  config = residual_config(base_channels=96)  # 6 channels everywhere
  generator = networks.make_generator(config)
  params, state = jax.jit(generator.init)(jax.random.key(0))
  for r in (8, 16):
    params[f"to_rgb_{r}x{r}"] = params["to_rgb_4x4"]
  z = jax.random.normal(jax.random.key(1), (2, config.latent_size))
  small, *others = generator.jitted_apply(params, state, z)
  for image in others:
    factor = image.shape[1] // 4
    expected = small.repeat(factor, axis=1).repeat(factor, axis=2)
    np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("combine", "placement"),
  [
    ("simple", "every_block"),
    ("lin_cat_equal", "last_block"),
    ("cat_lin", "none"),
  ],
)
def test_every_phi_and_the_minibatch_stddev(combine, placement):
  """With a stddev alone, three others of doubled contrast change a score."""
  config = residual_config(combine=combine, stddev_placement=placement)
  discriminator = networks.make_discriminator(config)
  d = random_arrays(discriminator)
  images = tuple(
    jax.random.normal(jax.random.key(r), (4, r, r, 3)) for r in (4, 8, 16)
  )
  others = tuple(image.at[1:].multiply(2.0) for image in images)
  first, other = (
    discriminator.jitted_apply(*d, each)[0] for each in (images, others)
  )
  assert (other == first) == (placement == "none")
