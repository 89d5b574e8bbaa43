"""Start a run from the weights of another one: transfer what fits."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from msggan_jax.algorithm import train_state
from msggan_jax.algorithm.program import Program
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.checkpoints import released, safetensors_file, workdirs
from msggan_jax.checkpoints.safetensors_file import DISCRIMINATOR, GENERATOR
from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS
from msggan_jax.models import networks

# With other values, tensors of the same name and shape mean something else.
_ARCHITECTURE = ("model", "equalized", "spectral_norm")

COPIED, NEW, DROPPED = "copied", "new", "dropped"


class Row(NamedTuple):
  """The fate of a tensor: copied, new or dropped."""

  network: str
  tensor: str
  shape: tuple[int, ...]
  fate: str
  shape_there: tuple[int, ...] | None = None  # if it does not fit


def check(source: str | Path, config: ConfigDict) -> None:
  """Check that a source has the configuration's architecture.

  Raises:
    FileNotFoundError: If the source does not exist.
    ValueError: In one sentence, if it is damaged, has another architecture, or
      is a run's folder and there are several processes.
  """
  source = released.find(source)
  if source.is_file():
    theirs = safetensors_file.read_config(source)
  else:
    theirs = saved.load_config(source)
    if jax.process_count() > 1:
      raise ValueError(
        f"--init_from: {source} is a run's folder, which several processes "
        "cannot start from; export it to a .safetensors file first"
      )
  for name in _ARCHITECTURE:
    if theirs[name] != config[name]:
      raise ValueError(
        f"--init_from: {source} has another architecture, config.{name} "
        f"{theirs[name]!r} and not {config[name]!r}; choose that, or another "
        "source"
      )


def start_from(
  source: str | Path, program: Program
) -> tuple[TrainState, list[str]]:
  """Make the state at step 0 from the weights of a run or a file.

  Both generators start from the source's moving average, and the optimizers
  afresh. A tensor is copied if its name and shape agree; the others keep their
  initial values.

  Args:
    source: A run's folder, a file written by `msggan_jax.export`, or the name
      of a released generator.
    program: The new run's.

  Returns:
    The state, and a table of all tensors for people, a line each.

  Raises:
    FileNotFoundError: If the source does not exist.
    ValueError: In one sentence, if nothing of the generator fits, or as
      `check` does.
  """
  source = released.find(source)
  check(source, program.config)
  initial = program.create_state()
  theirs, _, *tensors = workdirs.load_network(source, None, GENERATOR)
  fit = _Fit()
  g = fit.network(GENERATOR, (initial.g_params, initial.g_state), tensors)
  if not any(row.fate == COPIED for row in fit.rows):
    raise ValueError(
      f"--init_from: no tensor of the generator in {source} fits this "
      "configuration; choose its widths (config.base_channels, max_channels)"
    )
  d = (initial.d_params, initial.d_state)
  without = not _has_discriminator(source)
  if not without:
    _, _, *tensors = workdirs.load_network(source, None, DISCRIMINATOR)
    d = fit.network(DISCRIMINATOR, d, tensors)
  state = train_state.assemble(program.config, g, d, program.optimizer)
  state = jax.tree.map(
    lambda new, old: jax.device_put(new, old.sharding), state, initial
  )
  lines = _differences(theirs, ConfigDict(program.config)) + _table(fit.rows)
  if without:
    lines.append(f"{source} has no discriminator: it starts anew")
  return state, lines


def _has_discriminator(source: Path) -> bool:
  return not source.is_file() or DISCRIMINATOR in safetensors_file.names(source)


class _Fit:
  """Transfers tensors by name and shape, and notes the fate of each."""

  def __init__(self):
    self.rows: list[Row] = []

  def network(self, name: str, trees: Any, tensors: Any) -> Any:
    """Return a network's parameters and state with the tensors that fit."""
    theirs = {}
    for tree in tensors:
      theirs |= _by_path(tree)
    seen = set()

    def fit(keys, old: jax.Array) -> jax.Array:
      path = _path(keys)
      seen.add(path)
      there = theirs.get(path)
      if there is not None and there.shape == old.shape:
        self.rows.append(Row(name, path, old.shape, COPIED))
        return there.astype(old.dtype)
      shape = None if there is None else there.shape
      self.rows.append(Row(name, path, old.shape, NEW, shape))
      return old

    fitted = tuple(jax.tree.map_with_path(fit, tree) for tree in trees)
    self.rows += [
      Row(name, path, array.shape, DROPPED)
      for path, array in theirs.items()
      if path not in seen
    ]
    return fitted


def _by_path(tree: networks.Tree) -> dict[str, jax.Array]:
  return {_path(keys): x for keys, x in jax.tree.leaves_with_path(tree)}


def _path(keys: Any) -> str:
  return jax.tree_util.keystr(keys, simple=True, separator="/")


def _differences(theirs: ConfigDict, ours: ConfigDict) -> list[str]:
  """Return a line for each field of the networks that differs."""
  return [
    f"config.{name} is {ours[name]!r}, in the source {theirs[name]!r}"
    for name, field in FIELDS.items()
    if field.shapes_networks
    and name in theirs
    and not field.resumable
    and theirs[name] != ours[name]
  ]


def _table(rows: list[Row]) -> list[str]:
  def shape(of: tuple[int, ...]) -> str:
    return "x".join(map(str, of)) or "scalar"

  def line(row: Row) -> str:
    there = ""
    if row.shape_there is not None:
      there = f" (in the source {shape(row.shape_there)})"
    name = f"{row.network}/{row.tensor}"
    return f"{row.fate:8}{name:{width}}{shape(row.shape)}{there}"

  width = max(len(f"{row.network}/{row.tensor}") for row in rows) + 2
  counts = {
    fate: sum(row.fate == fate for row in rows)
    for fate in (COPIED, NEW, DROPPED)
  }
  total = ", ".join(f"{count} {fate}" for fate, count in counts.items())
  return [*map(line, rows), f"tensors: {total}"]
