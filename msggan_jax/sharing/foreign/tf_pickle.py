"""Read the official code's pickled networks, without TensorFlow.

A file contains G, D and Gs, each a `dnnlib.tflib.network.Network`: settings,
variables, and the Python source that built it, which is never read.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from msggan_jax.checkpoints.tensors import quote
from msggan_jax.sharing.foreign import restricted
from msggan_jax.sharing.foreign.restricted import Buildable, Constructor

_NUMBER_TYPES = {
  *("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
_MAX_DIMENSIONS = 16


@dataclasses.dataclass(eq=False)
class Network(Buildable):
  """The state of one network.

  Attributes:
    name: Its name, such as "G_synthesis".
    static_kwargs: Settings that differ from the build function's defaults.
    components: Sub-networks, by name.
    variables: Its own read-only arrays, by name.
  """

  name: str = ""
  static_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
  components: dict[str, "Network"] = dataclasses.field(default_factory=dict)
  variables: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def build(self, state: Any) -> None:
    """Set a pickled state, except its source code."""
    match state:
      case {
        "name": str(name),
        "static_kwargs": dict(static_kwargs),
        "variables": list(variables),
      }:
        pass
      case _:
        raise ValueError("a network lacks its name, settings or variables")
    components = state.get("components", {})
    if not isinstance(components, dict) or not all(
      isinstance(component, Network) for component in components.values()
    ):
      raise ValueError(f"the components of {quote(name)} are no networks")
    self.name, self.static_kwargs = name, static_kwargs
    self.components, self.variables = components, {}
    for variable in variables:
      match variable:
        case (str(key), _Array(values=np.ndarray() as values)):
          self.variables[key] = values
        case _:
          raise ValueError(f"{quote(name)} has a variable that is no array")


@dataclasses.dataclass(eq=False)
class _DType(Buildable):
  """A numeric element type of an array."""

  dtype: np.dtype

  def build(self, state: Any) -> None:
    match state:
      case (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
        self.dtype = self.dtype.newbyteorder(order)
      case _:
        raise ValueError("an array's type is no plain number")


class _Latin1(dict):
  """Text to latin1 bytes, cached: a file can refer to one text many times."""

  def __missing__(self, text: str) -> bytes:
    self[text] = raw = text.encode("latin1")
    return raw


@dataclasses.dataclass(eq=False)
class _Array(Buildable):
  """An array; its values arrive with its state."""

  latin1: _Latin1
  values: np.ndarray | None = None

  def build(self, state: Any) -> None:
    match state:
      case (int(), tuple(shape), _DType(dtype=dtype), bool(fortran), raw):
        pass
      case _:
        raise ValueError("an array is built in an unknown form")
    if isinstance(raw, str):
      raw = self.latin1[raw]
    if not isinstance(raw, bytes):
      raise ValueError("an array's values are not bytes")
    if len(shape) > _MAX_DIMENSIONS or not all(
      type(size) is int and 0 < size <= len(raw) for size in shape
    ):
      raise ValueError("an array has an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
      raise ValueError("an array's shape does not match its values")
    values = np.frombuffer(raw, dtype)
    self.values = values.reshape(shape, order="F" if fortran else "C")


def read_tf_pickle(path: str | Path) -> list[Network]:
  """Read the networks of an official .pkl; nothing in the file is executed.

  Args:
    path: A pickle of a network, or of a tuple or list of networks.

  Returns:
    The networks in the file's order.

  Raises:
    FileNotFoundError: If the file does not exist.
    ValueError: If the file is damaged or contains anything but networks.
  """
  data = restricted.read_bytes(path)
  try:
    content, _ = restricted.load(data, _known_globals())
    if isinstance(content, Network):
      content = [content]
    if not isinstance(content, tuple | list) or not all(
      isinstance(network, Network) for network in content
    ):
      raise ValueError("the file contains no networks")
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return list(content)


def _known_globals() -> dict[str, Any]:
  latin1 = _Latin1()

  def network(arguments: tuple) -> Network:
    _check_empty(arguments)
    return Network()

  def easy_dict(arguments: tuple) -> dict:
    _check_empty(arguments)
    return {}

  def reconstruct(arguments: tuple) -> _Array:
    if not arguments or arguments[0] is not ndarray:
      raise ValueError("an array is of an unknown kind")
    return _Array(latin1)

  def dtype(arguments: tuple) -> _DType:
    match arguments:
      case (str(name), *_) if name in _NUMBER_TYPES:
        return _DType(np.dtype(name))
    raise ValueError("an array's type is no plain number")

  def scalar(arguments: tuple) -> bool | int | float:
    match arguments:
      case (_DType(dtype=dtype), bytes() | str() as raw):
        raw = latin1[raw] if isinstance(raw, str) else raw
        if len(raw) == dtype.itemsize:
          return np.frombuffer(raw, dtype)[0].item()
    raise ValueError("a number is built in an unknown form")

  def encode(arguments: tuple) -> bytes:
    match arguments:
      case (str(text), "latin1"):
        return latin1[text]
    raise ValueError("bytes are built in an unknown form")

  ndarray = object()  # only passed to reconstruct
  arrays = {"_reconstruct": reconstruct, "scalar": scalar}
  return {
    "dnnlib.tflib.network.Network": Constructor(network),
    "dnnlib.util.EasyDict": Constructor(easy_dict),
    "numpy.ndarray": ndarray,
    "numpy.dtype": Constructor(dtype),
    "_codecs.encode": Constructor(encode),
  } | {
    # NumPy 2 renamed the module.
    f"numpy.{core}.multiarray.{name}": Constructor(make)
    for core in ("core", "_core")
    for name, make in arrays.items()
  }


def _check_empty(arguments: tuple) -> None:
  if arguments:
    raise ValueError("an object is built in an unknown form")
