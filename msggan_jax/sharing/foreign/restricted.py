"""Python's unpickler, restricted to data: a file executes nothing.

Weight files use a few dozen instructions and a handful of globals. Others are
refused; globals and calls are only recorded, so a file cannot import anything.
An allow-list in `find_class` alone would still hash any key, set attributes of
any instance and copy a call's arguments each time.
"""

import dataclasses
import io
import itertools
import pickle
import pickletools
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

from msggan_jax.checkpoints.tensors import quote

# Weight files use about 40 instructions per tensor.
_MAX_INSTRUCTIONS = 200_000
_MAX_CHARACTERS = 200  # of an error, which can quote much of the file

PICKLE = b"\x80"  # the first byte, of protocol 2 or later

_ALLOWED = {
  *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
  *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"),
  *("BINSTRING", "SHORT_BINSTRING"),  # latin1: Python 2's bytes
  *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
  *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
  *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
  *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
  *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
  *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
}
# Calls of these make a dict.
_DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")


@dataclasses.dataclass(frozen=True)
class Global:
  """A name that a file refers to, such as torch.FloatStorage."""

  name: str


@dataclasses.dataclass(eq=False)
class Object:
  """A call that a file makes, and the state that it sets afterwards."""

  called: str  # name of a global
  arguments: tuple
  state: Any = None


class _Dict(dict):
  """A dict of texts and numbers: hashing nested tuples can take forever."""

  def __setitem__(self, key: Any, value: Any) -> None:
    if not isinstance(key, str | int):
      raise ValueError("the pickle has a key that is neither text nor number")
    super().__setitem__(key, value)


def read_bytes(path: str | Path) -> bytes:
  """Read a whole file; raise FileNotFoundError if it does not exist."""
  if not Path(path).is_file():
    raise FileNotFoundError(f"{path} does not exist or is not a file")
  return Path(path).read_bytes()


def load(
  file: io.BytesIO,
  known: Collection[str],
  persistent: Callable[[Any], Any] | None = None,
) -> Any:
  """Read one pickle; the file's position is behind it afterwards.

  Args:
    file: A file in memory: one on a disk would allocate any length it declares.
    known: The allowed globals, "module.name".
    persistent: Maps persistent ids to values; None forbids them.

  Returns:
    Plain data, each `Global` and each call as an `Object`.

  Raises:
    ValueError: If the pickle is damaged or uses a global not in `known`.
  """
  begin = file.tell()
  try:
    with warnings.catch_warnings(action="ignore"):  # names with odd backslashes
      steps = itertools.islice(pickletools.genops(file), _MAX_INSTRUCTIONS + 1)
      names = [code.name for code, *_ in steps]
  except ValueError as error:
    raise _damaged(error) from error
  if len(names) > _MAX_INSTRUCTIONS:
    raise ValueError(f"the pickle has over {_MAX_INSTRUCTIONS} instructions")
  if unknown := {*names} - _ALLOWED:
    raise ValueError(
      f"the pickle uses the instruction {min(unknown)}, which weight files do "
      "not"
    )
  file.seek(begin)
  try:
    return _Unpickler(file, known, persistent).load()
  except ValueError:
    raise
  except Exception as error:  # of `pickle`, which raises many types
    raise _damaged(error) from error


def _damaged(error: Exception) -> ValueError:
  return ValueError(f"the pickle is damaged: {str(error)[:_MAX_CHARACTERS]}")


class _Unpickler(pickle._Unpickler):
  """The one in Python, whose instructions can be chosen."""

  def __init__(self, file, known, persistent):
    super().__init__(file, encoding="latin1")
    self._known = known
    self._persistent = persistent

  def find_class(self, module: Any, name: Any) -> Global:
    found = f"{module}.{name}"
    if found not in self._known:
      raise ValueError(
        f"the pickle uses {quote(found)}, which weight files of this kind do "
        "not need; the file is rejected, and nothing in it was executed"
      )
    return Global(found)

  def persistent_load(self, pid: Any) -> Any:
    if self._persistent is None:
      raise ValueError("the pickle refers to external data")
    return self._persistent(pid)

  def load_reduce(self) -> None:
    """Record a call, without copying arguments, which a file can repeat."""
    arguments, called = self.stack.pop(), self.stack.pop()
    if not isinstance(called, Global) or type(arguments) is not tuple:
      raise ValueError("the pickle calls an object that is not callable")
    if called.name not in _DICTS:
      self.append(Object(called.name, arguments))
    elif arguments:
      raise ValueError("an object is built in an unknown form")
    else:
      self.append(_Dict())

  def load_build(self) -> None:
    state, target = self.stack.pop(), self.stack[-1]
    if isinstance(target, Object):
      target.state = state
    elif not isinstance(target, dict) or not isinstance(state, dict):
      # Attributes of a dict (PyTorch's _metadata) are dropped.
      raise ValueError("the pickle sets the state of an object without one")

  dispatch: ClassVar = {
    ord(each.code): pickle._Unpickler.dispatch[ord(each.code)]
    for each in pickletools.opcodes
    if each.name in _ALLOWED
  }
  dispatch |= {
    pickle.REDUCE[0]: load_reduce,
    pickle.NEWOBJ[0]: load_reduce,
    pickle.BUILD[0]: load_build,
    pickle.EMPTY_DICT[0]: lambda self: self.append(_Dict()),
  }
