"""Presets: their settings, building all of them, invalid fields."""

import jax
import jax.numpy as jnp
import pytest

from msggan_jax.config import checks
from msggan_jax.models import networks
from tests.conftest import load_config

PRESETS = (
  "msg_progan",
  "msg_stylegan",
  "msg_stylegan_official",
  "bmsg_gan",
  "msg_gan_v1",
  "msg_r3",
  "msg_residual",
)

# The settings of the paper and of the other implementations.
SETTINGS = {
  "msg_progan": {
    "combine": "simple",
    "loss": "wasserstein",
    "penalty": "gradient_penalty",
    "optimizer": "rmsprop",
    "learning_rate": 0.003,
    "ema_kimg": 10.0,
    "g_step_latents": "same",
  },
  "msg_stylegan": {
    "combine": "cat_lin",
    "loss": "logistic",
    "penalty": "r1",
    "optimizer": "rmsprop",
    "learning_rate": 0.003,
    "ema_kimg": 10.0,
    "g_step_latents": "fresh",
  },
  "bmsg_gan": {
    "combine": "lin_cat_equal",
    "loss": "relativistic_hinge",
    "penalty": "none",
    "optimizer": "adam",
    "learning_rate": 0.003,
    "ema_decay": 0.999,
    "g_step_latents": "same",
  },
  "msg_gan_v1": {
    "combine": "lin_cat_equal",
    "loss": "relativistic_hinge",
    "penalty": "none",
    "optimizer": "adam",
    "learning_rate": 0.0003,
    "ema_kimg": 0.0,
    "g_step_latents": "fresh",
  },
}
SETTINGS["msg_r3"] = {
  "combine": "lin_cat",
  "loss": "relativistic_pairing",
  "penalty": "r1_r2",
  "penalty_scales": "pixels",
  "penalty_derivatives": "partial",
  "r1_gamma": 256.0,
  "r1_gamma_end": 25.6,
  "optimizer": "adam",
  "beta2": 0.9,
  "beta2_end": 0.99,
  "burn_in_kimg": 200.0,
  "g_step_latents": "same",
}
SETTINGS["msg_residual"] = {
  "model": "residual",
  "combine": "cat_lin",
  "stddev_placement": "none",
  "loss": "logistic",
  "penalty": "r1",
  "penalty_derivatives": "partial",
  "optimizer": "rmsprop",
  "learning_rate": 0.003,
}
SETTINGS["msg_stylegan_official"] = SETTINGS["msg_stylegan"] | {
  "optimizer": "adam"
}

# BMSG-GAN's own counts by resolution: generator, discriminator.
BMSG_PARAMETERS = {
  32: (20_719_628, 17_184_001),
  64: (22_490_383, 18_364_161),
  128: (22_933_394, 18_659_329),
  256: (23_044_309, 18_733_185),
  512: (23_072_120, 18_751_681),
  1024: (23_079_115, 18_756_321),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_settings(preset):
  config = load_config("default", preset)
  common = {
    "ema_decay": 0.0,
    "beta1": 0.0,
    "beta2": 0.99,
    "gp_weight": 10.0,
    "r1_gamma": 10.0,
    "penalty_derivatives": "total",
    "penalty_scales": "mean",
    "burn_in_kimg": 0.0,
  }
  settings = common | SETTINGS[preset]
  assert {field: config[field] for field in settings} == settings
  assert config == load_config(f"presets/{preset}")
  assert set(config) == set(load_config("default"))
  config.dataset.name = "cats"
  checks.validate(config, 8)


def test_gamma_of_msg_r3_follows_the_resolution():
  config = load_config("default", "msg_r3")
  config.resolution = 32
  assert (config.r1_gamma, config.r2_gamma_end) == (0.0625, 0.00625)
  config.r1_gamma = 1.0
  assert (config.r1_gamma_end, config.r2_gamma) == (0.1, 0.0625)
  config.resolution = 64
  assert (config.r1_gamma, config.r2_gamma) == (1.0, 1.0)
  config.resolution = 128
  assert (config.r1_gamma, config.r2_gamma) == (1.0, 16.0)


def test_unknown_preset_lists_the_presets():
  with pytest.raises(ValueError, match="'biggan'; choose one of msg_progan, "):
    load_config("default", "biggan")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds(preset):
  for resolution in BMSG_PARAMETERS if preset == "bmsg_gan" else (32, 1024):
    builds(preset, resolution)


def builds(preset, resolution):
  config = load_config(f"presets/{preset}")
  config.resolution = resolution
  generator = networks.make_generator(config)
  discriminator = networks.make_discriminator(config)
  g_arrays = jax.eval_shape(generator.init, jax.random.key(0))
  d_arrays = jax.eval_shape(discriminator.init, jax.random.key(0))
  z = jax.ShapeDtypeStruct((4, config.latent_size), jnp.float32)
  pyramid = jax.eval_shape(generator.apply, *g_arrays, z)
  assert [x.shape[1] for x in pyramid] == [
    2**i for i in range(2, resolution.bit_length())
  ]
  logits = jax.eval_shape(discriminator.apply, *d_arrays, pyramid)
  assert logits.shape == (4,)
  if preset == "bmsg_gan":
    counts = tuple(
      sum(x.size for x in jax.tree.leaves(params))
      for params in (g_arrays[0], d_arrays[0])
    )
    assert counts == BMSG_PARAMETERS[resolution]


@pytest.mark.parametrize(
  ("changes", "num_devices", "match"),
  [
    (
      {"model": "pix2pix"},
      1,
      "config.model is 'pix2pix'; choose one of progan",
    ),
    (
      {"num_classes": -1},
      1,
      "config.num_classes is -1; choose a whole number from 0",
    ),
    (
      {"stddev_group": -4},
      1,
      "config.stddev_group is -4; choose a whole number from 0",
    ),
    ({"learning_rate": 0.0}, 1, "learning_rate is 0.0; choose a number above"),
    ({"beta2": 1.5}, 1, "beta2 is 1.5; choose a number from 0 to 1"),
    ({"remat_from": "all"}, 1, "is 'all'; choose a resolution, 0 or auto"),
    (
      {"mapping_layers": 0},
      1,
      "config.mapping_layers is 0; choose a whole number from 1",
    ),
    ({"output_activation": "relu"}, 1, "choose one of linear, tanh"),
    ({"combine": "cat"}, 1, "choose one of simple, lin_cat, cat_lin, lin_cat_"),
    (
      {"model": "stylegan", "spectral_norm": True},
      1,
      "config.spectral_norm is True; config.model stylegan has only False",
    ),
    (
      {"model": "stylegan", "output_activation": "tanh"},
      1,
      "config.output_activation is 'tanh'; config.model stylegan has only",
    ),
    ({"learning_rate_end": 0.1}, 1, "is 0.1, but config.burn_in_kimg is 0"),
    (
      {"ema_kimg_end": 5.0, "ema_decay": 0.9, "burn_in_kimg": 1.0},
      1,
      "config.ema_decay 0.9 sets a constant decay; choose ema_decay 0",
    ),
    ({"penalty_scales": [1.0, 2.0]}, 1, "has 2 weights; give one for each"),
    ({"stddev_grouping": "strided"}, 8, "there are 8 devices; choose contig"),
    ({"batch_size": 20}, 8, "it must be a multiple of 32"),
    ({"batch_size": 20, "stddev_group": 0}, 8, "a multiple of 8"),
  ],
)
def test_impossible_configurations_end_in_a_sentence(
  changes, num_devices, match
):
  config = load_config("default")
  config.update(changes)
  with pytest.raises(ValueError, match=match):
    checks.validate(config, num_devices)


def test_possible_configurations_pass():
  config = load_config("default")
  config.stddev_grouping = "strided"
  checks.validate(config, 1)
  # The whole batch is one group: how it would be cut does not matter.
  config.stddev_group, config.batch_size = 0, 24
  checks.validate(config, 8)
