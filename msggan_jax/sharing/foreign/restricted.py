"""A pickle reader that builds plain data and executes nothing.

Python's own unpickler, even with an allow-list in `find_class`, hashes any key
and sets attributes of any instance. Weight files use a few dozen instructions
and a handful of globals. Only those are interpreted here; globals and calls are
only recorded, so a file cannot import anything.
"""

import dataclasses
import io
import pickletools
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from msggan_jax.checkpoints.tensors import quote

# Weight files use about 40 instructions per tensor.
_MAX_INSTRUCTIONS = 200_000
_MAX_CHARACTERS = 200  # of a parser's error, which can quote much of the file

PICKLE = b"\x80"  # the first byte, of protocol 2 or later

_NEW = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_TUPLE": tuple,
  "EMPTY_LIST": list,
  "EMPTY_DICT": dict,
}
# Instructions that push their argument.
_VALUES = {
  *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"),
  *("BINSTRING", "SHORT_BINSTRING"),  # latin1: Python 2's bytes
  *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
  *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
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
  machine = _Machine(known, persistent)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of names with odd backslashes
    for count, (name, argument) in enumerate(_instructions(file)):
      if count == _MAX_INSTRUCTIONS:
        raise ValueError(f"the pickle has over {count} instructions")
      machine.execute(name, argument)
  return machine.pop()


def _instructions(file: io.BytesIO) -> Iterator[tuple[str, Any]]:
  try:
    for opcode, argument, _ in pickletools.genops(file):
      yield opcode.name, argument
  except ValueError as error:
    reason = str(error)[:_MAX_CHARACTERS]
    raise ValueError(f"the pickle is damaged: {reason}") from error


class _Machine:
  """The stack machine that executes a pickle's instructions."""

  def __init__(self, known, persistent):
    self._known = known
    self._persistent = persistent
    self._stack: list = []
    self._below_marks: list[list] = []
    # A list would grow to any index that a file names.
    self._memo: dict[int, Any] = {}

  def execute(self, name: str, argument: Any) -> None:
    """Execute one instruction, by its name in `pickletools`."""
    match name:
      case "PROTO" | "FRAME" | "STOP":
        pass
      case _ if name in _NEW:
        self._push(_NEW[name]())
      case _ if name in _VALUES:
        self._push(argument)
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        self._push(tuple(self._pop_last(int(name[-1]))))
      case "MARK":
        self._below_marks.append(self._stack)
        self._stack = []
      case "TUPLE":
        self._push(tuple(self._pop_group()))
      case "APPEND":
        self._append(self._pop_last(1))
      case "APPENDS":
        self._append(self._pop_group())
      case "SETITEM":
        self._set_items(self._pop_last(2))
      case "SETITEMS":
        self._set_items(self._pop_group())
      case "BINPUT" | "LONG_BINPUT":
        self._memo[argument] = self._top()
      case "MEMOIZE":
        self._memo[len(self._memo)] = self._top()
      case "BINGET" | "LONG_BINGET":
        if argument not in self._memo:
          raise ValueError(
            f"the pickle refers to value {argument}, which it lacks"
          )
        self._push(self._memo[argument])
      case "GLOBAL":
        self._find(*argument.split(" ", 1))
      case "STACK_GLOBAL":
        self._find(*self._pop_last(2))
      case "REDUCE" | "NEWOBJ":
        self._call(*self._pop_last(2))
      case "BUILD":
        self._build(self.pop())
      case "BINPERSID":
        if self._persistent is None:
          raise ValueError("the pickle refers to external data")
        self._push(self._persistent(self.pop()))
      case _:
        raise ValueError(
          f"the pickle uses the instruction {name}, which weight files do not"
        )

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def pop(self) -> Any:
    """Take a value from the stack."""
    return self._pop_last(1)[0]

  def _pop_last(self, count: int) -> list:
    if len(self._stack) < count:
      raise ValueError("the pickle pops a value from an empty stack")
    values = self._stack[-count:]
    del self._stack[-count:]
    return values

  def _pop_group(self) -> list:
    """Pop all values since the last mark."""
    if not self._below_marks:
      raise ValueError("the pickle ends a group of values it never started")
    group, self._stack = self._stack, self._below_marks.pop()
    return group

  def _top(self) -> Any:
    self._push(value := self.pop())
    return value

  def _append(self, values: list) -> None:
    if type(target := self._top()) is not list:
      raise ValueError("the pickle appends to an object that is not a list")
    target.extend(values)

  def _set_items(self, values: list) -> None:
    """Set alternating keys and values of the dict on the stack."""
    if type(target := self._top()) is not dict:
      raise ValueError("the pickle sets items of an object that is not a dict")
    if len(values) % 2:
      raise ValueError("the pickle has a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
      # Hashing nested tuples can take forever.
      if not isinstance(key, str | int):
        raise ValueError("the pickle has a key that is neither text nor number")
      target[key] = value

  def _find(self, module: Any, name: Any) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
      raise ValueError("the pickle uses a global whose name is not text")
    found = f"{module}.{name}"
    if found not in self._known:
      raise ValueError(
        f"the pickle uses {quote(found)}, which weight files of this kind do "
        "not need; the file is rejected, and nothing in it was executed"
      )
    self._push(Global(found))

  def _call(self, called: Any, arguments: Any) -> None:
    if not isinstance(called, Global) or type(arguments) is not tuple:
      raise ValueError("the pickle calls an object that is not callable")
    if called.name not in _DICTS:
      self._push(Object(called.name, arguments))
    elif not arguments:
      self._push({})
    else:
      raise ValueError("an object is built in an unknown form")

  def _build(self, state: Any) -> None:
    """Set the state of the value on the stack."""
    target = self._top()
    if isinstance(target, Object):
      target.state = state
    elif not isinstance(target, dict) or not isinstance(state, dict):
      # Attributes of a dict (PyTorch's _metadata) are dropped.
      raise ValueError("the pickle sets the state of an object without one")
