"""One run per folder: a lock on a shared disk, released even by a crash."""

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from msggan_jax.runtime import processes

NAME = ".lock"


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
  """Create a folder and keep other runs out of it; a call of all processes.

  The first process holds the lock, and the kernel releases it however that
  process ends. A disk without locks is only warned of. ValueError if another
  run holds the lock, or if a process does not see the first one's folder.
  """
  token = secrets.token_hex(8)
  with contextlib.ExitStack() as stack:
    with processes.raising_together():
      if processes.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_locked(folder / NAME, token))
    token = processes.from_first(token)
    with processes.raising_together():
      processes.once_visible(lambda: _check_token(folder / NAME, token))
    yield


@contextlib.contextmanager
def _locked(path: Path, token: str) -> Iterator[None]:
  # The file stays: a lock on a removed file would not be seen by others.
  with path.open("a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      holder = file.readline().partition(" ")[2].strip()
      raise ValueError(
        f"{path.parent} is in use by another run ({holder or 'just started'}); "
        "wait for its end, stop it or choose another --workdir"
      ) from error
    except OSError as error:
      logging.warning(
        "%s: this disk has no locks (%s); start no second run here", path, error
      )
    file.truncate(0)
    file.write(f"{token} process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield


def _check_token(path: Path, token: str) -> None:
  """Check that this process sees the first process's token."""
  with contextlib.suppress(OSError):
    if path.read_text().startswith(token):
      return
  raise ValueError(
    f"{path.parent} is another folder than the first process's; put the "
    "workdir on a disk that all processes share"
  )
