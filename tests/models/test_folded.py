"""Folded rows against the plain form: every operation, whole networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msggan_jax.algorithm import losses
from msggan_jax.models import (
  folded,
  folded_convolution,
  layers,
  networks,
)
from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.convolution import convolve_downsample, upsample_convolve
from msggan_jax.models.discriminator import Combine
from msggan_jax.models.folded import best_fold, fold_of, refold
from msggan_jax.models.precision import TRUE_FLOAT32
from msggan_jax.models.pyramid import downsample, upsample
from msggan_jax.models.stddev import MinibatchStddev
from tests.algorithm.test_variants import small_config
from tests.models.test_networks import random_arrays


def convolve(x, kernel):
  return folded_convolution.convolve(x, kernel, TRUE_FLOAT32, fold_of(x))


def through_shift(x, kernel, f, between=lambda y: y):
  """Convolve twice as a block does, with something between."""
  shift = folded.shift_of(f)
  conv = functools.partial(Conv, kernel_size=3, fold=f, rngs=nnx.Rngs(0))
  conv_0 = conv(2, 3, shifts=(0, shift))
  conv_1 = conv(3, 2, shifts=(shift, 0))
  conv_0.kernel[...] = kernel
  conv_0.bias[...] = kernel[0, 0, 0]
  conv_1.kernel[...] = kernel.swapaxes(2, 3)
  return conv_1(between(conv_0(x)))


def noise(x, weight, f):
  return folded_convolution.spread(refold(x, 1)[..., 0], weight, f)


def doubled_and_blurred(x, kernel, f):
  shift = folded.shift_of(f)
  conv = Conv(2, 3, kernel_size=3, fold=f, shifts=(0, shift), rngs=nnx.Rngs(0))
  conv.kernel[...] = kernel
  return layers.blur(conv.after_upsampling(x), f, shift)


def combine(name, x, kernel):
  """Join an image, the first of x's channels, and x."""
  conv = functools.partial(
    Conv, fold=fold_of(x), rngs=nnx.Rngs(params=jax.random.key(0))
  )
  phi = Combine(name, image_channels=1, width=2, linear_gain=1.0, conv=conv)
  image = jnp.tanh(refold(x, 1)[..., :1] * kernel[0, 0, 0, 0])
  return phi(image, x)


def conv_with_bias(x, kernel):
  conv = Conv(2, 3, kernel_size=3, fold=fold_of(x), rngs=nnx.Rngs(0))
  conv.kernel[...] = kernel
  conv.bias[...] = kernel[0, 0, 0]
  return layers.leaky_relu(conv(x))


def conv_of_parts(x, kernel):
  """Convolve an image, here one channel, and a constant channel."""
  f = fold_of(x)
  conv = Conv(3, 3, kernel_size=3, fold=f, rngs=nnx.Rngs(0))
  conv.kernel[...] = jnp.concatenate([kernel, kernel[:, :, :1]], axis=2)
  x, value = refold(x, 1), refold(x, 1)[:, :1, :1, 1:]
  if f == 1:
    constant = jnp.broadcast_to(value, (*x.shape[:3], 1))
    return conv(jnp.concatenate([x, constant], axis=-1))
  return conv.of_parts(refold(x[..., :1], f), refold(x[..., 1:], f), value)


# (x, kernel, fold) -> result, of x's fold; x is (4, 8, 8, 2) if plain, the
# kernel (3, 3, 2, 3).
OPERATIONS = {
  "convolution": lambda x, k, f: convolve(x, k),
  "convolution of 1x1": lambda x, k, f: convolve(x, k[:1, :1]),
  "two convolutions": lambda x, k, f: through_shift(x, k, f),
  # Away from 0: features of small norm have ill-conditioned second derivatives,
  # which some processors round by more than the bound in either form.
  "shifted pixel norm": lambda x, k, f: through_shift(
    x + 3, k, f, lambda y: layers.leaky_relu_and_pixel_norm(y, f)
  ),
  "bias and leaky ReLU": lambda x, k, f: conv_with_bias(x, k),
  "parts": lambda x, k, f: conv_of_parts(x, k),
  "doubled": lambda x, k, f: upsample_convolve(x, k, fold=f * min(f, 2)),
  "doubled, same fold": lambda x, k, f: upsample_convolve(x, k, fold=f),
  "halved": lambda x, k, f: convolve_downsample(x, k),
  "downsample": lambda x, k, f: downsample(x),
  "downsample by 8": lambda x, k, f: downsample(x, 8),
  "upsample": lambda x, k, f: upsample(x, 2, f),
  "upsample by 4": lambda x, k, f: upsample(x, 4, f),
  "blur": lambda x, k, f: layers.blur(x, f),
  "doubled and blurred": lambda x, k, f: doubled_and_blurred(x, k, f),
  "pixel norm": lambda x, k, f: layers.leaky_relu_and_pixel_norm(x, f),
  "instance norm": lambda x, k, f: layers.instance_norm(x),
  "noise": lambda x, k, f: noise(x, k[0, 0, 0], f),
  "stddev": lambda x, k, f: MinibatchStddev(2)(x),
  "strided stddev": lambda x, k, f: MinibatchStddev(2, "strided")(x),
  "stddev of the batch": lambda x, k, f: MinibatchStddev(0)(x),
  "spatial stddev": lambda x, k, f: MinibatchStddev(0, spatial=True)(x),
  "simple": lambda x, k, f: combine("simple", x, k),
  "lin_cat": lambda x, k, f: combine("lin_cat", x, k),
  "cat_lin": lambda x, k, f: combine("cat_lin", x, k),
}  # fmt: skip


def derivatives(operation, x, kernel, f):
  """Return the value, first and second derivatives, in plain form."""

  def value(x, kernel):
    return refold(operation(refold(x, f), kernel, f), 1)

  def critic(x, kernel):
    return jnp.sum(jnp.sin(value(x, kernel)))

  def penalty(x, kernel):
    return jnp.sum(jnp.square(jax.grad(critic)(x, kernel)))

  return (
    value(x, kernel),
    jax.grad(critic, (0, 1))(x, kernel),
    jax.grad(penalty, (0, 1))(x, kernel),
  )


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_equals_its_plain_form(name):
  """Folded by 4, in float32: values, first and second derivatives."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(4, 8, 8, 2)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 3)) / 3, jnp.float32)

  @jax.jit
  def both(x, kernel):
    return tuple(derivatives(OPERATIONS[name], x, kernel, f) for f in (1, 4))

  plain, ours = map(jax.tree.leaves, both(x, kernel))
  for a, b in zip(ours, plain, strict=True):
    assert a.shape == b.shape
    assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b) + 1e-12


@pytest.mark.parametrize("f", [1, 2, 8])
def test_folds_hold_the_pixels_of_a_row(f):
  x = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
  y = refold(refold(jnp.asarray(x), 4), f)
  assert y.shape == (2, 8, 8 // f, 3 * f) and fold_of(y) == f
  for channel in range(3):
    for pixel in range(f):
      expected = x[:, :, pixel::f, channel]
      np.testing.assert_array_equal(y[..., channel * f + pixel], expected)


def test_narrow_levels_fill_the_lanes():
  """The paper's widths: 128 lanes and 128 positions from 128x128 up."""
  folds = {r: best_fold(r, min(16384 // r, 512)) for r in (4, 64, 128, 256)}
  assert folds == {4: 1, 64: 1, 128: 1, 256: 2}
  assert best_fold(512, 32) == 4 and best_fold(1024, 16) == 8
  assert best_fold(1024, 48) == 2 and best_fold(4, 8) == 1
  assert best_fold(8, 1) == 4


def total_loss(config, folding, examples=4):
  """Return the loss of both networks and its gradients, with penalties."""
  generator = networks.make_generator(config, folding=folding)
  discriminator = networks.make_discriminator(config, folding=folding)
  arrays = random_arrays(generator), random_arrays(discriminator, 1)
  arrays = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)
  (g_params, g_state), (d_params, d_state) = arrays
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(examples, config.latent_size)))
  epsilon = jnp.linspace(0.1, 0.9, examples)

  @jax.jit
  def compute(params):
    def loss(params):
      fakes = generator.apply(params[0], g_state, z)
      critic = lambda images: discriminator.apply(params[1], d_state, images)
      reals = tuple(image[::-1] for image in fakes)
      penalty = losses.gradient_penalty(critic, reals, fakes, epsilon)
      r1 = losses.r1_penalty(critic, reals)
      return critic(fakes).sum() + (penalty + r1).mean()

    return jax.value_and_grad(loss)(params)

  pyramid = jax.eval_shape(generator.apply, g_params, g_state, z)
  return compute((g_params, d_params)), [fold_of(image) for image in pyramid]


def narrow_config(preset):
  config = small_config(preset, batch_size=4, resolution=16)
  config.base_channels, config.max_channels = 512, 48
  return config


def test_images_and_scores_equal_their_plain_form(float64):
  config = narrow_config("msg_progan")
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(4, config.latent_size)))
  results = []
  for folding in (False, True):
    generator = networks.make_generator(config, folding=folding)
    discriminator = networks.make_discriminator(config, folding=folding)
    arrays = random_arrays(generator), random_arrays(discriminator, 1)
    arrays = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)

    @jax.jit
    def compute(g, d, generator=generator, discriminator=discriminator):
      pyramid = generator.apply(*g, z)
      scores = discriminator.apply(*d, pyramid)
      return scores, tuple(refold(image, 1) for image in pyramid)

    results.append(compute(*arrays))
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b)


def test_interleaved_groups_equal_contiguous_ones(float64):
  """Eight groups of four: value, first and second derivatives."""
  layer = MinibatchStddev(4)
  other = layer.interleaved(32)
  assert other and not layer.interleaved(8)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 4, 2, 3)))

  def interleaved(x):
    statistic = other.statistic(layer.interleave(x))
    return layer.interleave(statistic, inverse=True)

  @functools.partial(jax.jit, static_argnums=0)
  def compute(f, x):
    critic = lambda x: jnp.sum(jnp.sin(f(x) * jnp.exp(x[:, :1, :1, :1])))
    penalty = lambda x: jnp.sum(jnp.square(jax.grad(critic)(x)))
    return f(x), jax.grad(critic)(x), jax.grad(penalty)(x)

  ours, plain = compute(interleaved, x), compute(layer.statistic, x)
  for a, b in zip(ours, plain, strict=True):
    assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b)


@pytest.mark.slow
def test_an_interleaved_network_equals_its_plain_form(float64):
  config = small_config(batch_size=32)
  plain, ours = (total_loss(config, folding, 32)[0] for folding in (0, 1))
  for a, b in zip(*map(jax.tree.leaves, (ours, plain)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-11 * np.linalg.norm(b) + 1e-15


@pytest.mark.slow
@pytest.mark.parametrize(
  "preset", ["msg_progan", "msg_stylegan", "bmsg_gan", "msg_gan_v1"]
)
def test_gradients_of_networks_equal_their_plain_form(preset, float64):
  """Of both networks, through the gradient penalty and R1."""
  config = narrow_config(preset)
  plain, folds = total_loss(config, folding=False)
  assert folds == [1, 1, 1]
  ours, folds = total_loss(config, folding=True)
  assert folds == [1, 2, 4]  # 48 channels at 8x8, 32 at 16x16
  for a, b in zip(*map(jax.tree.leaves, (ours, plain)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-11 * np.linalg.norm(b) + 1e-15
