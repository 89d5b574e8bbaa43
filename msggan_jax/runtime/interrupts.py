"""Ctrl-C and SIGTERM end a command at once: no traceback, no half file.

Not by an exception, which libraries swallow, turn into others or print. It
imports little, and a package's first line can call it.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType

unfinished: set[Path] = set()  # files and folders that are removed then


def end_at_once() -> None:
  """Handle both signals, unless they are ignored.

  SIGTERM, too: without a handler the first process of a container ignores it.
  """
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)


def remove(path: Path) -> None:
  """Remove a file or a folder, as far as it exists and can be removed."""
  import shutil  # late: a signal during imports would not be handled

  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink()


def _end(number: int, frame: FrameType | None) -> None:
  del frame
  for path in list(unfinished):
    remove(path)
  # The signal may have come while it is written to, or its reader has ended.
  with contextlib.suppress(RuntimeError, OSError, ValueError):
    sys.stdout.flush()
  os._exit(128 + number)
