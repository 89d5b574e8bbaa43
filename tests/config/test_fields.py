"""The table of fields: its defaults, choices and types, and its page."""

import runpy
from pathlib import Path

from msggan_jax import models
from msggan_jax.algorithm import augment, losses, penalties, schedules
from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS
from msggan_jax.kernels import precision
from msggan_jax.models import (
  base_grid,
  discriminator,
  pyramid,
  stddev,
)
from tests.conftest import load_config

ROOT = Path(__file__).parents[2]
REFERENCE = runpy.run_path(str(ROOT / "docs" / "reference.py"))


def test_the_page_is_written_from_the_table():
  assert REFERENCE["PAGE"].read_text() == REFERENCE["page_text"](), "make docs"


def test_defaults_are_accepted_and_complete():
  for name, field in FIELDS.items():
    assert field.accepts(field.default), name
  config = load_config("default")
  defaults = {name: field.default for name, field in FIELDS.items()}
  assert saved.by_name(config.to_dict()) == defaults


def test_choices_are_those_of_the_code():
  tables = {
    "model": models.NAMES,
    "combine": discriminator.COMBINE_FUNCTIONS,
    "connected_scales": pyramid.SCALE_GROUPS,
    "stddev_placement": stddev.PLACEMENTS,
    "stddev_grouping": stddev.GROUPINGS,
    "precision": precision.PRECISIONS,
    "loss": losses.ADVERSARIAL_LOSSES,
    "penalty": penalties.PENALTIES,
    "penalty_scales": penalties.SCALE_WEIGHTS,
    "augment": augment.POLICIES,
  }
  for name, table in tables.items():
    assert FIELDS[name].choices == tuple(table), name
  assert FIELDS["base_grid"].default == base_grid.SQUARE
  ends = {f"{name}_end" for name in schedules.Now._fields}
  assert ends == {name for name in FIELDS if name.endswith("_end")}


def test_each_type_of_field():
  for name, good, bad in (
    ("seed", [0, 2**32 - 1], [-1, True, 0.5, "0", None]),
    ("dataset.crop", ["pad"], ["PAD", None, ["pad"]]),
    ("mirror", [True, False], [1, "True", None]),
    ("metrics", ["", "fid50k_full"], [None, 1]),
    ("total_kimg", [1, 0.5], [0, -1.0, float("nan"), float("inf"), 10**400]),
    ("linear_gain", [-1, 1.5], [float("nan"), True, "1"]),
    ("beta1", [0, 0.999999], [1, 1 - 1e-9, -0.1]),
    ("ema_decay", [0, 0.999999], [1.0, 1 - 1e-9]),
    ("remat_from", [0, 64, "auto"], [-1, "64", 1.5, True]),
    ("beta2_end", ["same", 0.5], ["start", 1.0, None]),
    ("penalty_scales", ["sum", [1, 0.5], (0,)], ["max", [-1.0], 1.0, ["1"]]),
    ("connected_scales", ["coarse", 8, [4, 8], (16,)], [None, {}, [[8]]]),
  ):
    for value in good:
      assert FIELDS[name].accepts(value), (name, value)
    for value in bad:
      assert not FIELDS[name].accepts(value), (name, value)
