"""Folded rows against the plain form: every operation, whole networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msggan_jax import kernels
from msggan_jax.algorithm import losses
from msggan_jax.kernels import by_platform
from msggan_jax.kernels.precision import TRUE_FLOAT32
from msggan_jax.kernels.tpu import operations
from msggan_jax.kernels.tpu.folded import (
  Channels,
  best_fold,
  data_of,
  fold_of,
  refold,
)
from msggan_jax.kernels.tpu.stddev import Stddev, join, of_batch
from msggan_jax.models import networks
from msggan_jax.models.discriminator import Combine
from msggan_jax.models.layers import Conv
from msggan_jax.models.stddev import MinibatchStddev, batch_mean
from tests.algorithm.runs import assert_same, random_arrays, small_config


def conv_of(kernel, **options):
  """Return a convolution with a kernel and some bias."""
  rngs = nnx.Rngs(0)
  conv = Conv(*kernel.shape[2:], 3, forms=kernels.FOLDED, rngs=rngs, **options)
  conv.kernel[...], conv.bias[...] = kernel, kernel[0, 0, 0]
  return conv


def two_convolutions(x, kernel):
  """Convolve twice, each with a bias, and between as a block does."""
  first = conv_of(kernel, before_window=True)
  y = kernels.leaky_relu_and_pixel_norm(first(x))
  return conv_of(kernel.swapaxes(2, 3))(y)


def noise(x, weight):
  return kernels.weighted_noise(refold(x, 1)[..., 0], weight, x)


def per_channel(x, kernel):
  """Scale by a value of each example's channels, shift by the channels'."""
  scale = kernel[None, 0, 0, 0, :2] + refold(x, 1)[:, 0, 0]
  return x * kernels.per_channel(scale, x) + kernels.per_channel(scale[0], x)


def upsampled_by_4(x):
  """Upsample to the same fold."""
  return kernels.upsample_like(x, refold(jnp.zeros((4, 32, 32, 1)), fold_of(x)))


def doubled_and_blurred(x, kernel):
  """The blur takes back the shift."""
  if fold_of(x) == 1:
    return kernels.blur(by_platform.upsample_convolve(x, kernel))
  y = operations.upsample_convolve(x, kernel, None, TRUE_FLOAT32)
  assert (y.fold, y.shift) == (8, 1)
  return kernels.blur(y)


def combine(name, x, kernel):
  """Join an image, the first of x's channels, and x."""
  config = small_config(combine=name, channels=1)
  conv = functools.partial(Conv, forms=kernels.FOLDED, rngs=nnx.Rngs(0))
  phi = Combine(config, 2, conv, kernels.FOLDED)
  image = jnp.tanh(refold(x, 1)[..., :1] * kernel[0, 0, 0, 0])
  return join(phi(image, x))


def conv_of_parts(x, kernel, apart=True):
  """Convolve an image, here one channel, and a constant channel."""
  f = fold_of(x)
  kernel = jnp.concatenate([kernel, kernel[:, :, :1]], axis=2)
  x, value = refold(x, 1), refold(x, 1)[:, :1, :1, 1:]
  channels = Channels(refold(x[..., :1], f), refold(x[..., 1:], f), value)
  conv = conv_of(kernel)
  return conv(channels if apart and f > 1 else join(channels))


def appended(layer, x):
  return join(Stddev(layer)(x, batch_mean))


# (x, kernel) -> result, of x's fold; x is (4, 8, 8, 2) if plain, the kernel (3,
# 3, 2, 3).
OPERATIONS = {
  "convolution": lambda x, k: operations.convolve(x, k, None, TRUE_FLOAT32),
  "convolution of 1x1": lambda x, k: operations.convolve(
    x, k[:1, :1], None, TRUE_FLOAT32
  ),
  # Away from 0: features of small norm have ill-conditioned second derivatives,
  # which some processors round by more than the bound in either form.
  "shifted pixel norm": lambda x, k: two_convolutions(x + 3, k),
  "parts": conv_of_parts,
  "halved": lambda x, k: conv_of(k).before_downsampling(x),
  "downsample by 8": lambda x, k: kernels.downsample(x, 8),
  "upsample by 4": lambda x, k: upsampled_by_4(x),
  "upsample to the best fold": lambda x, k: operations.upsample(x),
  "blur": lambda x, k: kernels.blur(x),
  "doubled and blurred": doubled_and_blurred,
  "instance norm": lambda x, k: kernels.instance_norm(x),
  "noise": lambda x, k: noise(x, k[0, 0, 0]),
  "values of channels": per_channel,
  "stddev": lambda x, k: appended(MinibatchStddev(2), x),
  "stddev of the batch": lambda x, k: appended(MinibatchStddev(0), x),
  "spatial stddev": lambda x, k: appended(MinibatchStddev(0, spatial=True), x),
  "simple": lambda x, k: combine("simple", x, k),
  "lin_cat": lambda x, k: combine("lin_cat", x, k),
  "cat_lin": lambda x, k: combine("cat_lin", x, k),
}


def derivatives(operation, x, kernel, f):
  """Return the value, first and second derivatives, in plain form."""

  def value(x, kernel):
    return refold(operation(refold(x, f), kernel), 1)

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
  assert y.shape == x.shape and fold_of(y) == f
  data = data_of(y)
  for channel in range(3):
    for pixel in range(f):
      expected = x[:, :, pixel::f, channel]
      np.testing.assert_array_equal(data[..., channel * f + pixel], expected)


def test_narrow_levels_fill_the_lanes():
  """The paper's widths: 128 lanes and 128 positions from 128x128 up."""
  folds = {r: best_fold(r, min(16384 // r, 512)) for r in (4, 64, 128, 256)}
  assert folds == {4: 1, 64: 1, 128: 1, 256: 2}
  assert best_fold(512, 32) == 4 and best_fold(1024, 16) == 8
  assert best_fold(1024, 48) == 2 and best_fold(4, 8) == 1
  assert best_fold(8, 1) == 4
  assert best_fold(12, 16) == 4 and best_fold(28, 16) == 4  # 4x3, 4x7


def total_loss(config, forms, examples):
  """Return the loss of both networks and its gradients, with penalties."""
  generator = networks.make_generator(config, forms)
  discriminator = networks.make_discriminator(config, forms)
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
      reals = jax.tree.map(lambda image: image[::-1], fakes)
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


@pytest.mark.parametrize(
  ("preset", "changes"),
  [
    ("msg_progan", {"pyramid": "exact"}),
    (
      "msg_residual",
      {"base_grid": "4x3", "pyramid": "pooled", "max_channels": 16},
    ),
    ("progan", {"grow_from": 8}),
    ("stylegan", {"grow_from": 8}),
  ],
)
def test_images_and_scores_equal_their_plain_form(preset, changes, float64):
  """Also of a fade, and with the gradient of both networks."""
  config = narrow_config(preset)
  config.update(changes)
  rng = np.random.default_rng(0)
  z = jnp.asarray(rng.normal(size=(4, config.latent_size)))
  results = []
  for forms in (kernels.BY_PLATFORM, kernels.FOLDED):
    generator = networks.make_generator(config, forms)
    discriminator = networks.make_discriminator(config, forms)
    arrays = random_arrays(generator), random_arrays(discriminator, 1)
    g, d = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)

    @jax.jit
    def compute(z, generator=generator, discriminator=discriminator, g=g, d=d):
      def score(z):
        pyramid = generator.apply(*g, z)
        scores = discriminator.apply(*d, pyramid)
        return scores.sum(), (scores, [refold(image, 1) for image in pyramid])

      return jax.value_and_grad(score, has_aux=True)(z)

    results.append(compute(z))
  assert_same(*reversed(results), tolerance=1e-12)


def test_interleaved_groups_equal_contiguous_ones(float64):
  """Eight groups of four: value, first and second derivatives."""
  layer = MinibatchStddev(4)
  other = of_batch(layer, 32)
  assert other.interleaved and not of_batch(layer, 8).interleaved
  assert of_batch(layer, 8, on_gpus=True).interleaved
  for batch in (2, 6):  # no whole groups
    assert not of_batch(layer, batch, on_gpus=True).interleaved
  x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 4, 2, 3)))

  def interleaved(x):
    statistic = other.statistic(other.interleave(x), batch_mean)
    return other.interleave(statistic, inverse=True)

  @functools.partial(jax.jit, static_argnums=0)
  def compute(f, x):
    critic = lambda x: jnp.sum(jnp.sin(f(x) * jnp.exp(x[:, :1, :1, :1])))
    penalty = lambda x: jnp.sum(jnp.square(jax.grad(critic)(x)))
    return f(x), jax.grad(critic)(x), jax.grad(penalty)(x)

  ours, plain = compute(interleaved, x), compute(layer.statistic, x)
  for a, b in zip(ours, plain, strict=True):
    assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("preset", "examples"),
  [
    *(("msg_progan", 4), ("msg_stylegan", 4), ("bmsg_gan", 4)),
    *(("msg_gan_v1", 4), ("msg_residual", 4)),
    ("msg_progan", 32),  # interleaved
  ],
)
def test_gradients_of_networks_equal_their_plain_form(
  preset, examples, float64
):
  """Of both networks, through the gradient penalty and R1."""
  config = narrow_config(preset)
  plain, folds = total_loss(config, kernels.BY_PLATFORM, examples)
  assert folds == [1, 1, 1]
  for forms, expected in (
    (kernels.FOLDED, [1, 2, 4]),  # 48 channels at 8x8, 32 at 16x16
    (kernels.ON_GPUS, [1, 1, 1]),
  ):
    ours, folds = total_loss(config, forms, examples)
    assert folds == expected
    for a, b in zip(*map(jax.tree.leaves, (ours, plain)), strict=True):
      assert np.linalg.norm(a - b) <= 1e-11 * np.linalg.norm(b) + 1e-15
