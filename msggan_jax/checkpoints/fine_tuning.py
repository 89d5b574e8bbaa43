"""Start a run from the weights of another one: transfer what fits."""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm.program import Program
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.checkpoints.safetensors_file import DISCRIMINATOR, GENERATOR
from msggan_jax.checkpoints.tensors import flatten
from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS

# The fields that shape networks.
SHAPES = tuple(
  name
  for name, field in FIELDS.items()
  if field.shapes_networks and not field.resumable
)
# With other values, tensors of the same name and shape mean something else.
_ARCHITECTURE = ("model", "equalized", "spectral_norm")

COPIED, NEW, DROPPED = "copied", "new", "dropped"
Row = tuple[str, str, str]  # the fate of a tensor, its name and its shape


def check(source: str | Path, fields: Mapping[str, Any]) -> None:
  """Check that a source has the architecture of the new run's `SHAPES`.

  ValueError also if it is a run's folder and there are several processes.
  """
  source = trained.find(source)
  if source.is_file():
    theirs, _, _ = safetensors_file.read_header(source)
  else:
    theirs = saved.load_config(source)
    if jax.process_count() > 1:
      raise ValueError(
        f"--init_from: {source} is a run's folder, which several processes "
        "cannot start from; export it to a .safetensors file first"
      )
  for name in _ARCHITECTURE:
    if theirs[name] != fields[name]:
      raise ValueError(
        f"--init_from: {source} has another architecture, config.{name} "
        f"{theirs[name]!r} and not {fields[name]!r}; choose that, or another "
        "source"
      )


def start_from(
  source: str | Path, program: Program, fields: Mapping[str, Any]
) -> tuple[TrainState, list[str]]:
  """Make a program's state at step 0 from the weights of a run or a file.

  Both generators start from the source's moving average, and the optimizers
  afresh. A tensor is copied if its name and shape agree; the others keep their
  initial values. The source is one of `trained.load_generator`, `fields` are
  the new run's `SHAPES`. Also returns a table of all tensors for people, a line
  each. Raises as `check`, and ValueError if nothing of the generator fits.
  """
  source = trained.find(source)
  check(source, fields)
  initial = program.create_state()
  theirs, _, *tensors = trained.load_network(source, None, GENERATOR)
  g = (initial.g_params, initial.g_state)
  g, rows = _transfer(GENERATOR, g, tensors)
  if not any(fate == COPIED for fate, _, _ in rows):
    raise ValueError(
      f"--init_from: no tensor of the generator in {source} fits this "
      "configuration; choose its widths (config.base_channels, max_channels)"
    )
  d, notes = (initial.d_params, initial.d_state), []
  if source.is_file() and (
    DISCRIMINATOR not in safetensors_file.read_header(source)[2]
  ):
    notes = [f"{source} has no discriminator: it starts anew"]
  else:
    _, _, *tensors = trained.load_network(source, None, DISCRIMINATOR)
    d, d_rows = _transfer(DISCRIMINATOR, d, tensors)
    rows += d_rows
  state = program.assemble(g, d)
  state = jax.tree.map(
    lambda new, old: jax.device_put(new, old.sharding), state, initial
  )
  lines = _differences(theirs, fields) + _table(rows)
  return state, lines + notes


def _transfer(
  name: str, trees: Sequence[Any], tensors: Sequence[Any]
) -> tuple[Any, list[Row]]:
  """Return a network's trees with the tensors that fit, and all fates."""
  theirs = flatten(*tensors)
  rows = []

  def fit(keys, old: jax.Array) -> jax.Array:
    path = "/".join(key.key for key in keys)
    there = theirs.pop(path, None)
    if there is not None and there.shape == old.shape:
      rows.append((COPIED, f"{name}/{path}", _shape(old)))
      return there.astype(old.dtype)
    note = "" if there is None else f" (in the source {_shape(there)})"
    rows.append((NEW, f"{name}/{path}", f"{_shape(old)}{note}"))
    return old

  fitted = tuple(jax.tree.map_with_path(fit, tree) for tree in trees)
  for path, array in theirs.items():
    rows.append((DROPPED, f"{name}/{path}", _shape(array)))
  return fitted, rows


def _shape(array: jax.Array) -> str:
  return "x".join(map(str, array.shape)) or "scalar"


def _differences(theirs: ConfigDict, ours: Mapping[str, Any]) -> list[str]:
  """Return a line for each field of the networks that differs."""
  return [
    f"config.{name} is {ours[name]!r}, in the source {theirs[name]!r}"
    for name in SHAPES
    if name in theirs and theirs[name] != ours[name]
  ]


def _table(rows: list[Row]) -> list[str]:
  width = max(len(name) for _, name, _ in rows) + 2
  counts = collections.Counter(fate for fate, _, _ in rows)
  total = ", ".join(f"{counts[fate]} {fate}" for fate in (COPIED, NEW, DROPPED))
  lines = [f"{fate:8}{name:{width}}{shape}" for fate, name, shape in rows]
  return [*lines, f"tensors: {total}"]
