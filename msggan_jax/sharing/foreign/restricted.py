"""A pickle reader that builds plain data and executes nothing.

Python's own unpickler, even with an allow-list in `find_class`, allocates as
much memory as a number in the file demands, hashes any key and sets attributes
of any instance. Weight files use a few dozen instructions and a handful of
globals. Only those are interpreted here; each global is looked up in a table of
inert stand-ins, so a file cannot import anything.
"""

import dataclasses
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msggan_jax.checkpoints.tensors import quote

# Weight files use about 40 instructions per tensor.
_MAX_INSTRUCTIONS = 200_000


@dataclasses.dataclass(frozen=True)
class Constructor:
  """A global that a file may call; `make` maps its arguments to plain data.

  `make` takes the arguments as one tuple and raises ValueError if they are
  invalid.
  """

  make: Callable[[tuple], Any]


class Buildable:
  """An object, other than a dict, whose state a file may set."""

  def build(self, state: Any) -> None:
    """Set the state; raise ValueError if it is invalid."""
    raise NotImplementedError


def read_bytes(path: str | Path) -> bytes:
  """Read a whole file.

  Raises:
    FileNotFoundError: If the file does not exist.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f"{path} does not exist or is no file")
  return Path(path).read_bytes()


def load(
  data: bytes,
  known: Mapping[str, Any],
  *,
  position: int = 0,
  persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
  """Read one pickle.

  Args:
    data: A file's bytes.
    known: The allowed globals, "module.name" to stand-in: a `Constructor` if
      a file may call it, else any inert value.
    position: Offset of the pickle, in bytes.
    persistent: Maps persistent ids to values; None forbids them.

  Returns:
    The value, and the position after the pickle.

  Raises:
    ValueError: If the pickle is damaged or uses a global not in `known`.
  """
  machine = _Machine(data, position, known, persistent)
  return machine.run(), machine.position


class _Machine:
  """The stack machine that executes a pickle."""

  def __init__(self, data, position, known, persistent):
    self.position = position
    self._data = data
    self._known = known
    self._persistent = persistent
    self._stack: list = []
    self._below_marks: list[list] = []
    # A list would grow to any index that a file names.
    self._memo: dict[int, Any] = {}

  def run(self) -> Any:
    """Execute instructions until STOP; return the top of the stack."""
    for _ in range(_MAX_INSTRUCTIONS):
      code = self.take(1)
      if code == pickle.STOP:
        return self.pop()
      if code not in _INSTRUCTIONS:
        raise ValueError(
          f"the pickle uses the instruction {code!r}, which weight files do not"
        )
      _INSTRUCTIONS[code](self)
    raise ValueError(f"the pickle has over {_MAX_INSTRUCTIONS} instructions")

  def take(self, size: int) -> bytes:
    """Return the next bytes."""
    begin, self.position = self.position, self.position + size
    if self.position > len(self._data):
      raise ValueError("the file ends in the middle of its data")
    return self._data[begin : self.position]

  def number(self, form: str) -> Any:
    """Return the next number, in a format of `struct`."""
    return struct.unpack(form, self.take(struct.calcsize(form)))[0]

  def counted(self, form: str) -> bytes:
    """Return bytes that are preceded by their length."""
    return self.take(self.number(form))

  def line(self) -> str:
    """Return the text up to the next newline."""
    end = self._data.find(b"\n", self.position)
    if end < 0:
      raise ValueError("the file ends in the middle of its data")
    return self.take(end + 1 - self.position)[:-1].decode()

  def push(self, value: Any) -> None:
    """Put a value on the stack."""
    self._stack.append(value)

  def pop(self) -> Any:
    """Take a value from the stack."""
    if not self._stack:
      raise ValueError("the pickle pops a value from an empty stack")
    return self._stack.pop()

  def pop_tuple(self, size: int) -> None:
    """Replace the last `size` values with a tuple of them."""
    self.push(tuple(reversed([self.pop() for _ in range(size)])))

  def mark(self) -> None:
    """Start a group of values."""
    self._below_marks.append(self._stack)
    self._stack = []

  def pop_group(self) -> list:
    """Pop all values since the last mark."""
    if not self._below_marks:
      raise ValueError("the pickle ends a group of values it never started")
    group, self._stack = self._stack, self._below_marks.pop()
    return group

  def append(self, values: list) -> None:
    """Append to the list on the stack."""
    self._top(list).extend(values)

  def set_items(self, values: list) -> None:
    """Set alternating keys and values of the dict on the stack."""
    target = self._top(dict)
    if len(values) % 2:
      raise ValueError("the pickle has a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
      # Hashing nested tuples can take forever.
      if not isinstance(key, str | int):
        raise ValueError("the pickle has a key that is neither text nor number")
      target[key] = value

  def put(self, index: int) -> None:
    """Store the top of the stack in the memo."""
    self.push(value := self.pop())
    self._memo[index] = value

  def memoize(self) -> None:
    """Store the top of the stack under the next free index."""
    self.put(len(self._memo))

  def get(self, index: int) -> None:
    """Push a value of the memo."""
    if index not in self._memo:
      raise ValueError(f"the pickle refers to value {index}, which it lacks")
    self.push(self._memo[index])

  def find(self, module: Any, name: Any) -> None:
    """Push a global's stand-in."""
    if not isinstance(module, str) or not isinstance(name, str):
      raise ValueError("the pickle uses a global whose name is not text")
    found = f"{module}.{name}"
    if found not in self._known:
      raise ValueError(
        f"the pickle uses {quote(found)}, which weight files of this kind do "
        "not need; the file is rejected, and nothing in it was executed"
      )
    self.push(self._known[found])

  def find_on_stack(self) -> None:
    """Push the stand-in of the global whose name is on the stack."""
    name, module = self.pop(), self.pop()
    self.find(module, name)

  def instantiate(self) -> None:
    """Reject the call of a global that is named in the instruction."""
    self.find(self.line(), self.line())
    raise ValueError("the pickle uses INST, which weight files do not")

  def call(self) -> None:
    """Call a constructor."""
    arguments, constructor = self.pop(), self.pop()
    if not isinstance(constructor, Constructor) or type(arguments) is not tuple:
      raise ValueError("the pickle calls an object that is not callable")
    self.push(constructor.make(arguments))

  def build(self) -> None:
    """Set the state of the value on the stack."""
    state = self.pop()
    target = self.pop()
    if isinstance(target, Buildable):
      target.build(state)
    elif not isinstance(target, dict) or not isinstance(state, dict):
      # Attributes of a dict (PyTorch's _metadata) are dropped.
      raise ValueError("the pickle sets the state of an object without one")
    self.push(target)

  def persist(self) -> None:
    """Replace a persistent id with its value."""
    if self._persistent is None:
      raise ValueError("the pickle refers to external data")
    self.push(self._persistent(self.pop()))

  def _top(self, kind: type) -> Any:
    if not self._stack or type(self._stack[-1]) is not kind:
      raise ValueError(
        f"the pickle adds items to an object that is no {kind.__name__}"
      )
    return self._stack[-1]


def _number(form: str) -> Callable[[_Machine], None]:
  return lambda m: m.push(m.number(form))


def _text(form: str, encoding: str) -> Callable[[_Machine], None]:
  return lambda m: m.push(m.counted(form).decode(encoding))


def _bytes(form: str) -> Callable[[_Machine], None]:
  return lambda m: m.push(m.counted(form))


# Python 2 pickled bytes as strings; latin1 preserves them.
_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
  pickle.PROTO: lambda m: m.take(1),
  pickle.FRAME: lambda m: m.take(8),
  pickle.MARK: _Machine.mark,
  pickle.NONE: lambda m: m.push(None),
  pickle.NEWTRUE: lambda m: m.push(True),
  pickle.NEWFALSE: lambda m: m.push(False),
  pickle.BININT: _number("<i"),
  pickle.BININT1: _number("<B"),
  pickle.BININT2: _number("<H"),
  pickle.BINFLOAT: _number(">d"),
  pickle.LONG1: lambda m: m.push(
    int.from_bytes(m.counted("<B"), "little", signed=True)
  ),
  pickle.BINSTRING: _text("<I", "latin1"),
  pickle.SHORT_BINSTRING: _text("<B", "latin1"),
  pickle.BINUNICODE: _text("<I", "utf-8"),
  pickle.SHORT_BINUNICODE: _text("<B", "utf-8"),
  pickle.BINUNICODE8: _text("<Q", "utf-8"),
  pickle.BINBYTES: _bytes("<I"),
  pickle.SHORT_BINBYTES: _bytes("<B"),
  pickle.BINBYTES8: _bytes("<Q"),
  pickle.EMPTY_DICT: lambda m: m.push({}),
  pickle.EMPTY_LIST: lambda m: m.push([]),
  pickle.EMPTY_TUPLE: lambda m: m.push(()),
  pickle.TUPLE: lambda m: m.push(tuple(m.pop_group())),
  pickle.TUPLE1: lambda m: m.pop_tuple(1),
  pickle.TUPLE2: lambda m: m.pop_tuple(2),
  pickle.TUPLE3: lambda m: m.pop_tuple(3),
  pickle.APPEND: lambda m: m.append([m.pop()]),
  pickle.APPENDS: lambda m: m.append(m.pop_group()),
  pickle.SETITEM: lambda m: m.set_items([m.pop(), m.pop()][::-1]),
  pickle.SETITEMS: lambda m: m.set_items(m.pop_group()),
  pickle.BINPUT: lambda m: m.put(m.number("<B")),
  pickle.LONG_BINPUT: lambda m: m.put(m.number("<I")),
  pickle.MEMOIZE: _Machine.memoize,
  pickle.BINGET: lambda m: m.get(m.number("<B")),
  pickle.LONG_BINGET: lambda m: m.get(m.number("<I")),
  pickle.GLOBAL: lambda m: m.find(m.line(), m.line()),
  pickle.STACK_GLOBAL: _Machine.find_on_stack,
  pickle.INST: _Machine.instantiate,
  pickle.REDUCE: _Machine.call,
  pickle.NEWOBJ: _Machine.call,
  pickle.BUILD: _Machine.build,
  pickle.BINPERSID: _Machine.persist,
}
