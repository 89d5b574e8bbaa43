"""Files and folders that are complete and on the disk, or not there at all.

Neither an error nor a signal leaves half of one.
"""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_unfinished: set[Path] = set()  # removed when a signal ends the command


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
  """Yield a temporary path; what the block makes there becomes `path` at once.

  That is a file, or a new folder. If `durable`, it reaches the disk before it
  is renamed. An error or a signal leaves nothing, a kill may leave a hidden
  `*.tmp`. Errors of the system name `path`.
  """
  temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
  _unfinished.add(temporary)
  try:
    with naming(path, temporary):
      yield temporary
      if durable:
        sync(temporary)
      temporary.replace(path)
      if durable:
        _sync(path.parent)
  finally:
    remove(temporary)
    _unfinished.discard(temporary)


def write(path: Path, content: str | bytes) -> None:
  """Write a file, completely or not at all; see `replacing`."""
  if isinstance(content, str):
    content = content.encode()
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def remove(path: Path) -> None:
  """Remove a file or a folder, as far as it exists and can be removed."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink()


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
  """Let errors of the system name a path, such as those of a full disk."""
  try:
    yield
  except OSError as error:
    if error.filename in (None, str(temporary)) and error.strerror:
      # A new one: some libraries' errors keep their name.
      raise OSError(error.errno, error.strerror, str(path)) from error
    raise


def sync(path: Path) -> None:
  """Wait until a file, or all of a folder, has reached the disk."""
  for each in path.rglob("*") if path.is_dir() else ():
    _sync(each)
  _sync(path)


def _sync(path: Path) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def end_at_signals() -> None:
  """Let Ctrl-C and SIGTERM end this process at once, unless they are ignored.

  Not by an exception, which libraries swallow, turn into others or print.
  SIGTERM, too: without a handler the first process of a container ignores it.
  """
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
  del frame
  for path in list(_unfinished):
    remove(path)
  # The signal may have come while it is written to, or its reader has ended.
  with contextlib.suppress(RuntimeError, OSError, ValueError):
    sys.stdout.flush()
  os._exit(128 + number)
