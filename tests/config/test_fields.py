"""The table of fields, and the files that are written from it."""

import runpy
from pathlib import Path

import pytest

from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS
from tests.conftest import load_config

ROOT = Path(__file__).parents[2]
REFERENCE = runpy.run_path(str(ROOT / "docs" / "reference.py"))


@pytest.mark.parametrize("name", ["default", "page"])
def test_files_are_written_from_the_table(name):
  path = REFERENCE["DEFAULT" if name == "default" else "PAGE"]
  assert path.read_text() == REFERENCE[f"{name}_text"](), "run: make docs"


def test_defaults_are_accepted_and_complete():
  for name, field in FIELDS.items():
    assert field.accepts(field.default), name
  config = load_config("default")
  assert set(saved.by_name(config.to_dict())) == set(FIELDS)


@pytest.mark.parametrize(
  ("name", "good", "bad"),
  [
    ("seed", [0, 2**32 - 1], [-1, True, 0.5, "0", None]),
    ("dataset.crop", ["pad"], ["PAD", None, ["pad"]]),
    ("mirror", [True, False], [1, "True", None]),
    ("metrics", ["", "fid50k_full"], [None, 1]),
    ("total_kimg", [1, 0.5], [0, -1.0, float("nan"), float("inf"), 10**400]),
    ("linear_gain", [-1, 1.5], [float("nan"), True, "1"]),
    ("beta1", [0, 1.0], [1.01, -0.1]),
    ("remat_from", [0, 64, "auto"], [-1, "64", 1.5, True]),
    ("beta2_end", ["same", 0.5, 1], ["start", 1.01, None]),
    ("penalty_scales", ["sum", [1, 0.5], (0,)], ["max", [-1.0], 1.0, ["1"]]),
    ("connected_scales", ["coarse", 8, [4, 8], (16,)], [None, {}, [[8]]]),
  ],
)
def test_each_type_of_field(name, good, bad):
  for value in good:
    assert FIELDS[name].accepts(value), value
  for value in bad:
    assert not FIELDS[name].accepts(value), value
