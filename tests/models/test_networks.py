"""Networks: parameter counts, scales, multi-scale gradients, labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.models import networks
from msggan_jax.models.discriminator import COMBINE_FUNCTIONS
from msggan_jax.models.pyramid import connected_scales
from tests.conftest import load_config

# Trainable parameters of the paper's Tables 6 and 7, by resolution. Only
# cat_lin's convolution has no bias.
G_PARAMETERS = {
  32: 20_719_628,
  128: 22_933_394,
  256: 23_044_309,
  1024: 23_079_115,
}
D_PARAMETERS = {
  "simple": {
    32: 20_775_937,
    128: 23_011_585,
    256: 23_126_145,
    1024: 23_163_681,
  },
  "lin_cat": {
    32: 24_276_481,
    128: 27_967_489,
    256: 28_152_577,
    1024: 28_210_753,
  },
  "cat_lin": {
    32: 21_525_505,
    128: 24_070_401,
    256: 24_198_273,
    1024: 24_238_625,
  },
}


def random_arrays(network, seed=0):
  """Draw parameters and state with NumPy, which compiles nothing."""
  rng = np.random.default_rng(seed)

  def draw(path, x):
    scale = 100.0 if path[1].key == "mapping" else 1.0  # 1 / lr_multiplier
    scale *= 0.1 if path[-1].key == "bias" else 1.0
    return jnp.asarray(scale * rng.normal(size=x.shape), x.dtype)

  return jax.tree_util.tree_map_with_path(draw, network.shapes)


def count(network):
  return sum(x.size for x in jax.tree.leaves(network.shapes[0]))


@pytest.mark.parametrize("resolution", G_PARAMETERS)
def test_parameter_counts_of_the_paper(resolution):
  config = load_config("default")
  config.resolution = resolution
  assert count(networks.make_generator(config)) == G_PARAMETERS[resolution]
  for combine, expected in D_PARAMETERS.items():
    config.combine = combine
    discriminator = networks.make_discriminator(config)
    assert count(discriminator) == expected[resolution]


@pytest.mark.parametrize(
  ("resolution", "channels"), [(4, 4), (8, 3), (64, 1), (2048, 3)]
)
def test_shapes_at_every_scale(resolution, channels):
  config = load_config("default")
  config.resolution, config.channels = resolution, channels
  config.latent_size, config.max_channels = 20, 24
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  z = jax.ShapeDtypeStruct((4, 20), jnp.float32)
  pyramid = jax.eval_shape(generator.apply, generator.shapes[0], {}, z)
  scales = connected_scales(config.resolution, config.connected_scales)
  assert [x.shape for x in pyramid] == [(4, r, r, channels) for r in scales]
  logits = jax.eval_shape(
    discriminator.apply, discriminator.shapes[0], {}, pyramid
  )
  assert logits.shape == (4,) and logits.dtype == jnp.float32


def test_modules_are_named_by_resolution():
  config = load_config("default")
  config.resolution = 8
  g_params = networks.make_generator(config).shapes[0]
  names = ("block_4x4", "block_8x8", "to_rgb_4x4", "to_rgb_8x8")
  assert set(g_params) == set(names)
  d_params = networks.make_discriminator(config).shapes[0]
  assert set(d_params) == {"from_rgb_8x8", "block_8x8", "block_4x4", "score"}


@pytest.mark.parametrize(
  ("connected", "expected"),
  [
    ("all", (4, 8, 16, 32, 64, 128)),
    ("none", (128,)),
    ("coarse", (4, 8, 128)),
    ("middle", (16, 32, 128)),
    ("fine", (64, 128)),
    ((8, 64), (8, 64, 128)),
  ],
)
def test_connected_scales(connected, expected):
  config = load_config("default")
  config.resolution = 128
  config.connected_scales = connected
  assert (
    connected_scales(config.resolution, config.connected_scales) == expected
  )
  generator = networks.make_generator(config)
  params = generator.shapes[0]
  to_rgb = {name for name in params if name.startswith("to_rgb")}
  assert to_rgb == {f"to_rgb_{r}x{r}" for r in expected}
  z = jax.ShapeDtypeStruct((4, 512), jnp.float32)
  pyramid = jax.eval_shape(generator.apply, params, {}, z)
  discriminator = networks.make_discriminator(config)
  params = discriminator.shapes[0]
  jax.eval_shape(discriminator.apply, params, {}, pyramid)


def small(config):
  config.resolution, config.latent_size = 8, 8
  config.base_channels, config.max_channels = 64, 8
  return config


@pytest.mark.parametrize("combine", COMBINE_FUNCTIONS)
def test_the_gradient_reaches_every_scale(combine):
  """The paper's idea: D's gradient reaches every `to_rgb` directly."""
  config = small(load_config("default"))
  config.combine = combine
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  g_params, _ = random_arrays(generator, 0)
  d_params, _ = random_arrays(discriminator, 1)
  z = jax.random.normal(jax.random.key(2), (4, 8))

  @jax.jit
  @jax.grad
  def gradient(g_params):
    return discriminator.apply(
      d_params, {}, generator.apply(g_params, {}, z)
    ).sum()

  for name, leaf in gradient(g_params).items():
    if name.startswith("to_rgb"):
      assert float(jnp.abs(leaf["kernel"]).max()) > 1e-6, name


def test_stddev_placement():
  config = small(load_config("default"))
  everywhere = networks.make_discriminator(config).shapes[0]
  config.stddev_placement = "last_block"
  last = networks.make_discriminator(config).shapes[0]
  channels = lambda p, r: p[f"block_{r}x{r}"]["conv_0"]["kernel"].shape[2]
  assert channels(everywhere, 8) == channels(last, 8) + 1
  assert channels(everywhere, 4) == channels(last, 4)


def test_bfloat16_activations_stay_near_float32():
  config = small(load_config("default"))
  z = jax.random.normal(jax.random.key(2), (4, 8))
  results = []
  for precision in ("float32", "bfloat16"):
    config.precision = precision
    generator = networks.make_generator(config)
    discriminator = networks.make_discriminator(config)
    pyramid = generator.jitted_apply(*random_arrays(generator, 0), z)
    logits = discriminator.jitted_apply(
      *random_arrays(discriminator, 1), pyramid
    )
    assert pyramid[-1].dtype == logits.dtype == jnp.float32
    results.append(np.asarray(pyramid[-1]))
  error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
  assert 0 < error < 0.05


def test_plain_networks_have_no_state():
  config = small(load_config("default"))
  assert networks.make_generator(config).shapes[1] == {}
  assert networks.make_discriminator(config).shapes[1] == {}


@pytest.mark.parametrize("model", ["progan", "stylegan", "residual"])
def test_labels_change_images_and_scores(model):
  config = small(load_config("default"))
  config.model, config.num_classes = model, 3
  config.w_size = config.mapping_size = 8
  config.mapping_layers = 2
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  g_arrays = random_arrays(generator, 0)
  d_arrays = random_arrays(discriminator, 1)
  assert g_arrays[0]["label_embedding"].shape == (3, 8)
  z = jnp.ones((4, 8))
  first = jnp.zeros(4, jnp.int32)
  pyramid = generator.jitted_apply(*g_arrays, z, first)
  other = generator.jitted_apply(*g_arrays, z, first + 1)
  assert all(
    float(jnp.abs(a - b).max()) > 1e-3
    for a, b in zip(pyramid, other, strict=True)
  )
  # D returns the label's score.
  d_arrays[0]["score"]["kernel"] = jnp.zeros((8, 3))
  d_arrays[0]["score"]["bias"] = jnp.array([5.0, 6.0, 7.0])
  labels = jnp.array([2, 0, 1, 2])
  scores = discriminator.jitted_apply(*d_arrays, pyramid, labels)
  np.testing.assert_array_equal(scores, [7, 5, 6, 7])


def test_conditional_latents_are_normalized_with_their_label():
  config = small(load_config("default"))
  config.num_classes = 2
  generator = networks.make_generator(config)
  params, _ = random_arrays(generator, 0)
  assert params["block_4x4"]["dense"]["kernel"].shape == (16, 16 * 8)
  z = jax.random.normal(jax.random.key(2), (2, 8))
  labels = jnp.array([0, 1])
  pyramid = generator.jitted_apply(params, {}, z, labels)
  # Scaling latent and label vector alike keeps the point on the hypersphere.
  params["label_embedding"] *= 3.0
  scaled = generator.jitted_apply(params, {}, z * 3.0, labels)
  np.testing.assert_allclose(pyramid[-1], scaled[-1], rtol=1e-4, atol=1e-5)
