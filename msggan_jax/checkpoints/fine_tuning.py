"""Start a run from the weights of another one: transfer what fits."""

import collections
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm.program import Program
from msggan_jax.algorithm.train_state import TrainState, frozen_modules
from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.checkpoints.safetensors_file import DISCRIMINATOR, GENERATOR
from msggan_jax.checkpoints.tensors import flatten, name_of
from msggan_jax.checkpoints.trained import Loaded
from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS
from msggan_jax.data import values
from msggan_jax.models.base_grid import SQUARE
from msggan_jax.models.networks import Network

# The fields that shape networks; the first are of the images.
_SHAPES = tuple(
  name
  for name, field in FIELDS.items()
  if field.shapes_networks and not field.resumable
)
_OF_IMAGES = ("resolution", "base_grid", "channels", "num_classes", "precision")
# With other values, tensors of the same name and shape mean something else.
_ARCHITECTURE = (
  *("model", "spectral_norm", "pixel_norm"),
  *("output_activation", "input_activation"),
  *("normalize_latents", "mapping_layers"),
)

COPIED, NEW, DROPPED = "copied", "new", "dropped"


class _Row(NamedTuple):
  fate: str
  name: str  # of a tensor, such as generator/block_4x4/conv/kernel
  shape: str


def check(source: str | Path | None, config: ConfigDict) -> None:
  """Check that a new run may start from a source, or from None.

  ValueError if it would freeze random weights, if the source has another
  architecture, or is a run's folder while there are several processes.
  """
  if source is None:
    if config.freeze_d:
      raise ValueError(
        f"config.freeze_d is {config.freeze_d}, which would freeze blocks of "
        "random weights; give --init_from, or choose 0"
      )
    return
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
  names = [*_ARCHITECTURE]
  # 3x4 has as many pixels as 4x3, but in another order.
  if sorted(theirs.get("base_grid", SQUARE)) == sorted(config.base_grid):
    names.append("base_grid")
  if flags := _flags_of(theirs, config, names):
    raise ValueError(
      f"--init_from: {source} has another architecture; choose {flags}, or "
      "another source"
    )


def start_from(
  source: str | Path,
  program: Program,
  value_range: values.Range | None = None,
) -> tuple[TrainState, list[str]]:
  """Make a program's state at step 0 from the weights of a run or a file.

  Both generators start from the source's moving average, and the optimizers
  afresh. A tensor is copied if its name and shape agree, rescaled if the layer
  scales it by another factor (linear_gain, equalized, the depth of residual
  networks); the others keep their initial values. The source is one of
  `trained.load_generator`. Also returns a table of all tensors for people, a
  line each. Raises as `check`, and ValueError if no kernel of a network fits,
  or a frozen block is not the source's.
  """
  source = trained.find(source)
  config = program.config
  check(source, config)
  names, notes = [GENERATOR, DISCRIMINATOR], []
  if source.is_file():
    *_, there = safetensors_file.read_header(source)
    if DISCRIMINATOR not in there:
      names.remove(DISCRIMINATOR)
      notes = [f"{source} has no discriminator: it starts anew"]
  _, loaded = trained.load_networks(source, None, names)
  initial = program.create_state()
  trees = (initial.g_params, initial.g_state)
  g, g_rows, of_g = _transfer(GENERATOR, loaded, program.generator, trees)
  trees = (initial.d_params, initial.d_state)
  d, d_rows, of_d = _transfer(
    DISCRIMINATOR, loaded, program.discriminator, trees
  )
  theirs = loaded[GENERATOR][0]
  ranges = value_range, trained.about_images(source, theirs)[1]
  here, there = map(values.describe, ranges)
  if here != there:
    notes.append(f"the images are {here}, in the source {there}")
  flags = _flags_of(theirs, config, [n for n in _SHAPES if n not in _OF_IMAGES])
  choose = f"choose {flags}" if flags else "choose another source"
  for name, rows in zip(names, (g_rows, d_rows), strict=False):
    if not any(
      row.fate == COPIED and row.name.endswith("/kernel") for row in rows
    ):
      raise ValueError(
        f"--init_from: no kernel of the {name} in {source} fits this "
        f"configuration; {choose}"
      )
  frozen = [f"{DISCRIMINATOR}/{name}/" for name in frozen_modules(config)]
  for row in d_rows:
    if row.fate == NEW and row.name.startswith(tuple(frozen)):
      raise ValueError(
        f"config.freeze_d {config.freeze_d} would freeze {row.name}, "
        f"{row.shape}, with random weights: {source} has no such tensor; "
        f"choose config.freeze_d 0, or {choose.removeprefix('choose ')}"
      )
  state = program.assemble(g, d)
  state = jax.tree.map(
    lambda new, old: jax.device_put(new, old.sharding), state, initial
  )
  lines = [
    f"config.{name} is {ours!r}, in the source {there!r}"
    for name, (there, ours) in _differing(theirs, config, _SHAPES).items()
  ]
  rows = g_rows + d_rows
  width = max(len(row.name) for row in rows) + 2
  lines += [f"{row.fate:8}{row.name:{width}}{row.shape}" for row in rows]
  return state, [*lines, of_g, of_d, *notes]


def _transfer(
  name: str,
  loaded: Mapping[str, Loaded],
  ours: Network,
  trees: tuple[Any, Any],
) -> tuple[Any, list[_Row], str]:
  """Return a network's trees with the tensors that fit; rows, a summary."""
  theirs, ratios = {}, {}
  if name in loaded:
    _, network, *tensors = loaded[name]
    theirs, scales = flatten(*tensors), network.run_time_factors()
    # The factors with which the source's tensors do the same in ours.
    ratios = {
      path: scales[path] / scale
      for path, scale in ours.run_time_factors().items()
      if path in scales and scales[path] != scale
    }
  rows = []

  def fit(keys, old: jax.Array) -> jax.Array:
    path = name_of(keys)
    there = theirs.pop(path, None)
    if there is not None and there.shape == old.shape:
      ratio = ratios.get(path, 1.0)
      note = "" if ratio == 1 else f" (times {ratio:.4g})"
      rows.append(_Row(COPIED, f"{name}/{path}", f"{_shape(old)}{note}"))
      return (there * ratio).astype(old.dtype)
    note = "" if there is None else f" (in the source {_shape(there)})"
    rows.append(_Row(NEW, f"{name}/{path}", f"{_shape(old)}{note}"))
    return old

  fitted = tuple(jax.tree.map_with_path(fit, tree) for tree in trees)
  for path, array in theirs.items():
    rows.append(_Row(DROPPED, f"{name}/{path}", _shape(array)))
  sizes = {f"{name}/{path}": x.size for path, x in flatten(trees[0]).items()}
  copied = sum(sizes.get(row.name, 0) for row in rows if row.fate == COPIED)
  total = sum(sizes.values())
  counts = collections.Counter(row.fate for row in rows)
  fates = ", ".join(f"{counts[fate]} {fate}" for fate in (COPIED, NEW, DROPPED))
  summary = (
    f"{name}: {copied / total:.1%} of {total:,} parameters copied; "
    f"tensors: {fates}"
  )
  return fitted, rows, summary


def _shape(array: jax.Array) -> str:
  return "x".join(map(str, array.shape)) or "scalar"


def _differing(
  theirs: Mapping[str, Any], config: ConfigDict, names: Iterable[str]
) -> dict[str, tuple[Any, Any]]:
  """Return the fields in which a source differs: its value and ours."""
  ours = json.loads(json.dumps(config.to_dict()))  # lists, as the source has
  pairs = {
    name: (theirs.get(name, FIELDS[name].default), ours[name]) for name in names
  }
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flags_of(
  theirs: Mapping[str, Any], config: ConfigDict, names: Iterable[str]
) -> str:
  """Return the flags that give the fields the source's values."""
  differing = _differing(theirs, config, names)
  return shlex.join(f"--config.{k}={v}" for k, (v, _) in differing.items())
