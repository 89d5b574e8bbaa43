"""Map a file's tensors to our trees: names and axes."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

_MAX_PROBLEMS = 40  # lines of an error
_QUOTED_CHARACTERS = 80  # of text from a file, in an error


class Layout(NamedTuple):
  """The conversion of a file's tensor to ours."""

  their_shape: Callable[[tuple], tuple]  # our shape to the file's
  convert: Callable[[np.ndarray], np.ndarray]  # the file's array to ours


class Source(NamedTuple):
  """A tensor's name in a file, and its layout there."""

  name: str
  layout: Layout


# Our path, such as "block_4x4/conv/kernel", to its source.
Table = dict[str, Source]


SAME = Layout(lambda shape: shape, lambda x: x)


class Weights(NamedTuple):
  """Contents of another implementation's files, and their tables."""

  fields: dict[str, Any]  # config fields that override the preset
  generator: dict[str, np.ndarray]
  ema: dict[str, np.ndarray]  # the generator's moving average
  discriminator: dict[str, np.ndarray] | None  # None: no file given
  g_table: Table
  d_table: Table


def name_of(path: tuple[Any, ...]) -> str:
  """Return a leaf's name by its path in a tree, "block_4x4/conv/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(*trees: Any) -> dict[str, Any]:
  """Return all leaves of trees by their names."""
  return {
    name_of(path): leaf
    for tree in trees
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def digest(arrays: Mapping[str, np.ndarray]) -> str:
  """Return the SHA-256 of named arrays, in any order."""
  state = hashlib.sha256()
  for name in sorted(arrays):
    state.update(f"{name} {arrays[name].shape}\n".encode())
    state.update(arrays[name].tobytes())
  return state.hexdigest()


def to_own(*trees: dict[str, Any]) -> dict[str, np.ndarray]:
  """Return a file's tensors, float32, as `flatten` names them."""
  return {
    name: np.asarray(array, np.float32, order="C")
    for name, array in flatten(*trees).items()
  }


def from_own(
  tensors: Mapping[str, np.ndarray], what: str, *trees: dict[str, Any]
) -> tuple[dict[str, Any], ...]:
  """Return the trees that `to_own` has flattened; ValueError if they misfit."""
  table = {name: Source(name, SAME) for name in flatten(*trees)}
  converted, misfits = to_trees(tensors, table, trees)
  if misfits:
    raise ValueError(describe(what, misfits))
  return converted


def to_trees(
  tensors: Mapping[str, np.ndarray],
  table: Table,
  trees: tuple[dict[str, Any], ...],
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
  """Convert a file's tensors to our trees, which together use all of them.

  `trees` has nested dicts of shapes (`jax.ShapeDtypeStruct`).

  Returns:
    The trees with float32 arrays, and one line for each tensor that is missing,
    unused, of another shape, or contains NaN or Inf. If any line is returned,
    the trees are invalid.
  """
  problems = []

  def convert(keys, shape: jax.ShapeDtypeStruct):
    source = table[name_of(keys)]
    expected = source.layout.their_shape(shape.shape)
    tensor = tensors.get(source.name)
    if tensor is None:
      problems.append(f"missing: {source.name} {expected}")
    elif tensor.shape != expected:
      problems.append(f"{source.name} is {tensor.shape}, expected {expected}")
    elif tensor.dtype.kind != "f":
      problems.append(f"{source.name} is {tensor.dtype}, not a float type")
    else:
      with np.errstate(over="ignore"):  # of float64
        ours = np.array(source.layout.convert(tensor), np.float32, order="C")
      if np.isfinite(ours).all():
        return ours
      problems.append(f"{source.name} has NaN or Inf")

  converted = tuple(jax.tree.map_with_path(convert, tree) for tree in trees)
  known = {source.name for source in table.values()}
  problems += [
    f"unused: {quote(name)[1:-1]} {tensor.shape}"
    for name, tensor in tensors.items()
    if name not in known
  ]
  return converted, problems


def describe(network: str, problems: list[str]) -> str:
  """Return the first problems as text, one per line."""
  lines = problems[:_MAX_PROBLEMS]
  if len(problems) > len(lines):
    lines.append(f"and {len(problems) - len(lines)} more")
  return "\n  ".join([f"the {network} does not match:", *lines])


def quote(value: Any) -> str:
  """Quote text from a file for an error message, truncated.

  Containers are quoted by type only: they can be nested without end.
  """
  if not isinstance(value, str | int | float):
    return f"a {type(value).__name__}"
  text = str(value)
  cut = len(text) > _QUOTED_CHARACTERS
  return repr(text[:_QUOTED_CHARACTERS]) + ("..." if cut else "")
