"""Presets: their settings; invalid fields."""

import pytest

from msggan_jax.config import checks
from tests.conftest import load_config

COLUMNS = (
  *("combine", "loss", "penalty", "optimizer"),
  *("learning_rate", "g_step_latents"),
)
WASSERSTEIN = ("simple", "wasserstein", "gradient_penalty")
PAIRING = ("lin_cat", "relativistic_pairing", "r1_r2")
LOGISTIC = ("cat_lin", "logistic", "r1")
HINGE = ("lin_cat_equal", "relativistic_hinge", "none", "adam")
# The settings of the paper and of the other implementations.
SETTINGS = {
  "msg_progan": (*WASSERSTEIN, "rmsprop", 0.003, "same"),
  "msg_stylegan": (*LOGISTIC, "rmsprop", 0.003, "fresh"),
  "msg_stylegan_official": (*LOGISTIC, "adam", 0.003, "fresh"),
  "bmsg_gan": (*HINGE, 0.003, "same"),
  "msg_gan_v1": (*HINGE, 0.0003, "fresh"),
  "msg_r3": (*PAIRING, "adam", 0.002, "same"),
  "msg_residual": (*LOGISTIC, "rmsprop", 0.003, "same"),
  "progan": (*WASSERSTEIN, "adam", 0.001, "fresh"),
  "stylegan": (*LOGISTIC, "adam", 0.001, "fresh"),
}
COMMON = {
  **{"ema_kimg": 10.0, "ema_decay": 0.0, "beta1": 0.0, "beta2": 0.99},
  **{"gp_weight": 10.0, "r1_gamma": 10.0, "penalty_derivatives": "total"},
  **{"penalty_scales": "mean", "burn_in_kimg": 0.0},
}
OTHERS = {
  "bmsg_gan": {"ema_decay": 0.999},
  "msg_gan_v1": {"ema_kimg": 0.0},
  "msg_r3": {
    **{"penalty_scales": "pixels", "penalty_derivatives": "partial"},
    **{"r1_gamma": 256.0, "r1_gamma_end": 25.6, "burn_in_kimg": 200.0},
    **{"beta2": 0.9, "beta2_end": 0.99, "ema_kimg": 0.0},
  },
  "msg_residual": {
    **{"model": "residual", "stddev_placement": "none"},
    **{"penalty_derivatives": "partial"},
  },
  "progan": {"grow_from": 4, "stddev_placement": "last_block"},
  "stylegan": {
    **{"grow_from": 8, "stddev_placement": "last_block", "style_mixing": 0.9},
  },
}


def test_settings():
  for preset, values in SETTINGS.items():
    config = load_config("default", preset)
    settings = dict(zip(COLUMNS, values, strict=True)) | COMMON
    settings |= OTHERS.get(preset, {})
    assert {field: config[field] for field in settings} == settings, preset
    assert set(config) == set(load_config("default"))
    config.dataset.name = "cats"
    # Of eight devices each needs a group at every stage.
    checks.validate(config, 1 if config.grow_from else 8)


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


STYLEGAN = {"model": "stylegan"}
ADAPTIVE = {"augment": "exact", "augment_target": 0.5}
GROWING = {"grow_from": 4, "connected_scales": "none", "total_kimg": 9e3}
IMPOSSIBLE = (
  ({"resolution": 24}, "resolution is 24; it must be a power of two"),
  ({"resolution": 2}, "resolution is 2; choose a whole number from 4 to"),
  ({"connected_scales": (4, 5)}, r"connected_scales is \[4, 5\]|\(4, 5\)"),
  ({"num_classes": -1}, "num_classes is -1; choose a whole number from 0"),
  ({"learning_rate": 0.0}, "learning_rate is 0.0; choose a number above"),
  ({"beta2": 1.0}, "beta2 is 1.0; choose a number from 0, below 1 in float"),
  ({"remat_from": "all"}, "is 'all'; choose a resolution, 0 or auto"),
  ({"combine": "cat"}, "choose one of simple, lin_cat, cat_lin, lin_cat_"),
  (STYLEGAN | {"spectral_norm": True}, "is True; config.model stylegan has"),
  (
    {"model": "residual", "equalized": False},
    "is False; config.model residual",
  ),
  (STYLEGAN | {"output_activation": "tanh"}, "is 'tanh'; config.model stylega"),
  ({"learning_rate_end": 0.1}, "is 0.1, but config.burn_in_kimg is 0"),
  (
    {"ema_kimg_end": 5.0, "ema_decay": 0.9, "burn_in_kimg": 1.0},
    "config.ema_decay 0.9 sets a constant decay; choose ema_decay 0",
  ),
  ({"penalty_scales": [1.0, 2.0]}, "has 2 weights; give one for each"),
  ({"stddev_grouping": "strided"}, "there are 8 devices; choose contig"),
  ({"augment": "exact"}, "at most 0.8, or config.augment_target"),
  ({"batch_size": 20}, "it must be a multiple of 32"),
  ({"batch_size": 20, "stddev_group": 0}, "a multiple of 8"),
  ({"micro_batch_size": 12}, "micro_batch_size is 12; it must be a multiple"),
  ({"micro_batch_size": 2}, "micro_batch_size is 2; it must be a multiple"),
  ({"micro_batch_size": -4}, "is -4; choose a whole number, 0 or more"),
  ({"micro_batch_size": 2, "stddev_group": 0}, "stddev spans the whole"),
  ({"augment_holdout": "photos"}, "but config.augment is none"),
  ({"augment_target": 0.6}, "but config.augment is none"),
  (
    ADAPTIVE
    | {"augment_target": 0.0, "augment_strength": 0.5}
    | {"augment_holdout": "photos"},
    "'photos', but the strength is not adaptive",
  ),
  (ADAPTIVE, "wasserstein has no zero .*_holdout"),
  (
    ADAPTIVE | {"augment_strength_end": 0.3, "burn_in_kimg": 1.0},
    "_end is 0.3, but an adaptive strength",
  ),
  ({"grow_from": 4}, "connected_scales is 'all'; networks that grow have only"),
  (GROWING | {"grow_from": 512}, "choose a power of two from 4 to .* 256, or"),
  (GROWING | {"grow_from": 12}, "config.grow_from is 12; choose a power of t"),
  (GROWING | {"model": "residual"}, "grow have only progan or stylegan: choos"),
  (GROWING | {"pyramid": "exact"}, "is 'exact'; networks that grow have only"),
  (GROWING | {"total_kimg": 7199.0}, "but the last fade, .* ends at 7200: cho"),
  (GROWING | {"grow_fade_kimg": 0.04}, "is 0.04, not two batches of 32 at 8 "),
  (GROWING | {"grow_fade_kimg": 0.01}, "is 0.01, not two batches of 32 at 8 "),
  (GROWING | {"grow_stable_kimg": 0.01}, "is 0.01, not one batch of 32 at 4 "),
  (GROWING | {"grow_batch_sizes": "8:64,128:48"}, "sizes at 128 pixels, is 48"),
  (GROWING | {"grow_batch_sizes": "8:64,4:32"}, "'8:64,4:32'; choose numbers"),
  (GROWING | {"grow_learning_rates": "8"}, "rates is '8'; choose numbers abov"),
)


def test_impossible_configurations_end_in_a_sentence():
  for changes, match in IMPOSSIBLE:
    config = load_config("default")
    config.update(changes)
    with pytest.raises(ValueError, match=match):
      checks.validate(config, 8)


STRIDED = {"stddev_grouping": "strided"}
WITHOUT_STDDEV = {"model": "residual", "stddev_placement": "none"}


def test_possible_configurations_pass():
  for num_devices, changes in (
    (1, STRIDED),
    # The whole batch is one group: how it would be cut does not matter.
    (8, STRIDED | {"stddev_group": 0, "batch_size": 24}),
    (2, WITHOUT_STDDEV | {"batch_size": 6}),
    (2, WITHOUT_STDDEV | {"batch_size": 12, "micro_batch_size": 3}),
    (2, WITHOUT_STDDEV | {"batch_size": 6, "stddev_group": 0}),
    (2, WITHOUT_STDDEV | STRIDED | {"batch_size": 6}),
  ):
    config = load_config("default")
    config.update(changes)
    checks.validate(config, num_devices)
