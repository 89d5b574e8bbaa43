"""Mutations of valid files, and limits that their readers must keep."""

import contextlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Numbers that are often too large, and words that mean something somewhere.
NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff"]
NUMBERS += [b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80", b"\x01\0", b"\0\x01"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
FORBIDDEN += ("socket.connect", "os.symlink", "os.link", "os.fork")


def mutate(
  rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()
) -> bytes:
  """Return a damaged copy of one of the seeds.

  Args:
    rng: Draws everything.
    seeds: Valid files.
    tokens: Bytes to put in now and then, besides `NUMBERS`.
  """
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
  """Watch a block.

  Args:
    mebibytes: By how much the process may grow.

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


class _Watch:
  """What Python does to files and processes, by its audit events."""

  def __init__(self):
    self.allowed: tuple[str, ...] | None = None
    self.violations: list[str] = []
    self.installed = False

  def hook(self, event: str, arguments: tuple) -> None:
    if self.allowed is None:
      return
    if event in FORBIDDEN:
      self.violations.append(f"{event} {arguments}")
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
      path, _, flags = arguments
      path = os.path.abspath(os.fsdecode(path))
      if (flags or 0) & WRITES and not path.startswith(self.allowed):
        self.violations.append(f"writes {path}")


_WATCH = _Watch()


@contextlib.contextmanager
def writing_only_to(*folders: Path) -> Iterator[None]:
  """Fail if the block writes elsewhere, or starts or calls anything."""
  if not _WATCH.installed:  # a hook cannot be taken away
    sys.addaudithook(_WATCH.hook)
    _WATCH.installed = True
  _WATCH.violations = []
  _WATCH.allowed = (*(f"{folder}{os.sep}" for folder in folders), os.devnull)
  try:
    yield
  finally:
    _WATCH.allowed = None
  assert not _WATCH.violations


def report(what: str, began: float, counts: dict) -> None:
  """Print a long run's counts; `pytest -s` shows them."""
  secs = time.monotonic() - began
  print(f"\n{what}: {sum(counts.values())} inputs in {secs:.0f} s, {counts}")
