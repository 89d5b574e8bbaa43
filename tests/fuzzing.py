"""Mutations of valid files, and limits that their readers must keep."""

import contextlib
import functools
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Numbers that are often too large, and words that mean something somewhere.
NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff"]
NUMBERS += [b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80", b"\x01\0", b"\0\x01"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
  *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
  *("socket.connect", "os.link", "os.symlink"),
)
WATCHED = (
  *FORBIDDEN,
  *("exec", "pickle.find_class", "marshal.loads", "open", "import"),
  *("os.remove", "os.rename", "os.mkdir", "os.rmdir"),
)


def mutate(
  rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()
) -> bytes:
  """Return a damaged copy of a valid file; `tokens` are put in now and then."""
  data = bytearray(rng.choice(seeds))
  for _ in range(rng.choice([1, 1, 1, 2, 4, 12])):
    if not data:
      break
    # Formats have their magic numbers and indexes at both ends.
    end = rng.choice([16, 64, 512, len(data)])
    place = rng.randrange(min(end, len(data)))
    place = len(data) - 1 - place if rng.random() < 0.25 else place
    match rng.randrange(8):
      case 0:
        data[place] ^= 1 << rng.randrange(8)
      case 1:
        data[place] = rng.randrange(256)
      case 2:
        del data[place:]
      case 3:
        del data[place : place + rng.choice([1, 4, 100])]
      case 4:  # a part twice, or elsewhere
        begin = rng.randrange(len(data))
        data[place:place] = data[begin : begin + rng.choice([1, 8, 100])]
      case 5:  # the rest of another file
        other = rng.choice(seeds)
        data[place:] = other[rng.randrange(len(other)) :]
      case _:
        token = rng.choice([*NUMBERS, *tokens])
        keep = rng.random() < 0.5
        data[place : place + (0 if keep else len(token))] = token
  return bytes(data)


class Hang(BaseException):
  """An input takes too long; no handler of the code catches it."""


@contextlib.contextmanager
def limits(mebibytes: int) -> Iterator[Callable[[float], None]]:
  """Fail if the block makes the process grow by more.

  Yields:
    Called at the beginning of an input with the CPU seconds it may take.
  """

  def raise_hang(*_):
    raise Hang

  def begin(secs: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, secs)

  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  handler = signal.signal(signal.SIGPROF, raise_hang)
  try:
    yield begin
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, handler)
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown / 1024 < mebibytes  # both in KiB, on Linux


_WATCHES: list[list] = []  # the events of each block that is watched


@functools.cache
def _install_hook() -> None:
  """Add an audit hook, which stays as long as its process."""

  def hook(event: str, arguments: tuple) -> None:
    if _WATCHES and event in WATCHED:
      _WATCHES[-1].append((event, arguments))

  sys.addaudithook(hook)


@contextlib.contextmanager
def watch() -> Iterator[list[tuple[str, tuple]]]:
  """Collect what Python does to files and processes, by its audit events."""
  _install_hook()
  _WATCHES.append(events := [])
  try:
    yield events
  finally:
    _WATCHES.pop()


@contextlib.contextmanager
def writing_only_to(*folders: Path) -> Iterator[None]:
  """Fail if the block writes elsewhere, or starts or calls anything."""
  with watch() as events:
    yield
  allowed = (*(f"{folder}{os.sep}" for folder in folders), os.devnull)
  for event, arguments in events:
    assert event not in FORBIDDEN, arguments
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
      path, _, flags = arguments
      path = os.path.abspath(os.fsdecode(path))
      assert not (flags or 0) & WRITES or path.startswith(allowed), path
