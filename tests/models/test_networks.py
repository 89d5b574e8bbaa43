"""Networks: parameter counts, scales, labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.models import networks
from msggan_jax.models.pyramid import connected_scales
from tests.algorithm.runs import random_arrays, small_config
from tests.conftest import load_config

# Trainable parameters of the paper's Tables 6 and 7, by resolution. Only
# cat_lin's convolution has no bias.
PARAMETERS = {
  32: {
    "generator": 20_719_628,
    "simple": 20_775_937,
    "lin_cat": 24_276_481,
    "cat_lin": 21_525_505,
  },
  1024: {
    "generator": 23_079_115,
    "simple": 23_163_681,
    "lin_cat": 28_210_753,
    "cat_lin": 24_238_625,
  },
}


def count(network):
  return sum(x.size for x in jax.tree.leaves(network.shapes[0]))


@pytest.mark.parametrize("resolution", PARAMETERS)
def test_parameter_counts_of_the_paper(resolution):
  config = load_config("default")
  config.resolution = resolution
  of_generator, *of_discriminators = PARAMETERS[resolution].items()
  assert count(networks.make_generator(config)) == of_generator[1]
  for config.combine, expected in of_discriminators:
    assert count(networks.make_discriminator(config)) == expected


def test_connected_scales():
  for connected, expected in (
    ("all", (4, 8, 16, 32, 64, 128)),
    ("none", (128,)),
    ("coarse", (4, 8, 128)),
    ("middle", (16, 32, 128)),
    ("fine", (64, 128)),
    ((8, 64), (8, 64, 128)),
  ):
    assert connected_scales(128, connected) == expected


@pytest.mark.parametrize(
  ("model", "resolution", "channels", "connected", "grid"),
  [
    ("progan", 4, 4, "all", (4, 4)),
    ("progan", 8, 3, "all", (3, 4)),
    ("stylegan", 8, 3, "all", (7, 4)),
    ("progan", 64, 1, "middle", (4, 4)),
    ("progan", 32, 3, "none", (4, 4)),
    ("residual", 16, 3, (4,), (3, 4)),
  ],
)
def test_shapes_at_every_connected_scale(
  model, resolution, channels, connected, grid
):
  """Scales that are not connected have no `to_rgb` and no image."""
  config = load_config("default")
  config.model, config.base_grid = model, "{}x{}".format(*grid)
  config.resolution, config.channels = resolution, channels
  config.latent_size, config.max_channels = 20, 24
  config.connected_scales = connected
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  z = jax.ShapeDtypeStruct((4, 20), jnp.float32)
  pyramid = jax.eval_shape(generator.apply, *generator.shapes, z)
  scales = connected_scales(resolution, connected)
  assert [x.shape for x in pyramid] == [
    (4, *(r // 4 * side for side in grid), channels) for r in scales
  ]
  names = generator.shapes[0]
  to_rgb = {name for name in names if name.startswith("to_rgb")}
  assert to_rgb == {f"to_rgb_{r}x{r}" for r in scales}
  logits = jax.eval_shape(discriminator.apply, *discriminator.shapes, pyramid)
  assert logits.shape == (4,) and logits.dtype == jnp.float32


@pytest.mark.parametrize("model", ["progan", "residual"])
def test_bfloat16_activations_stay_near_float32(model):
  config = small_config(model=model)
  z = jax.random.normal(jax.random.key(2), (4, 4))
  results = []
  for config.precision in ("float32", "bfloat16"):
    generator = networks.make_generator(config)
    discriminator = networks.make_discriminator(config)
    assert generator.shapes[1] == discriminator.shapes[1] == {}
    pyramid = generator.jitted_apply(*random_arrays(generator, 0), z)
    logits = jax.eval_shape(
      discriminator.apply, *random_arrays(discriminator, 1), pyramid
    )
    assert pyramid[-1].dtype == logits.dtype == jnp.float32
    results.append(np.asarray(pyramid[-1]))
  error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
  assert 0 < error < 0.05


@pytest.mark.parametrize("model", ["progan", "stylegan"])
def test_labels_change_images_and_scores(model):
  config = small_config(model=model, num_classes=3)
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  g_arrays = random_arrays(generator, 0)
  d_arrays = random_arrays(discriminator, 1)
  assert g_arrays[0]["label_embedding"].shape == (3, 4)
  z = jnp.ones((4, 4))
  first = jnp.zeros(4, jnp.int32)
  pyramid = generator.jitted_apply(*g_arrays, z, first)
  other = generator.jitted_apply(*g_arrays, z, first + 1)
  assert all(
    float(jnp.abs(a - b).max()) > 1e-3
    for a, b in zip(pyramid, other, strict=True)
  )
  # D returns the label's score.
  d_arrays[0]["score"]["kernel"] = jnp.zeros((4, 3))
  d_arrays[0]["score"]["bias"] = jnp.array([5.0, 6.0, 7.0])
  labels = jnp.array([2, 0, 1, 2])
  scores = discriminator.jitted_apply(*d_arrays, pyramid, labels)
  np.testing.assert_array_equal(scores, [7, 5, 6, 7])


def test_conditional_latents_are_normalized_with_their_label():
  generator = networks.make_generator(small_config(num_classes=2))
  params, _ = random_arrays(generator, 0)
  assert params["block_4x4"]["dense"]["kernel"].shape == (8, 16 * 4)
  z = jax.random.normal(jax.random.key(2), (2, 4))
  labels = jnp.array([0, 1])
  pyramid = generator.jitted_apply(params, {}, z, labels)
  # Scaling latent and label vector alike keeps the point on the hypersphere.
  params["label_embedding"] *= 3.0
  scaled = generator.jitted_apply(params, {}, z * 3.0, labels)
  np.testing.assert_allclose(pyramid[-1], scaled[-1], rtol=1e-4, atol=1e-5)
