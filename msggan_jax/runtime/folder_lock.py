"""One process per folder: a lock on a shared disk, released even by a crash."""

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

NAME = ".lock"


@contextlib.contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
  """Create a folder and keep other runs out of it; a call of all processes.

  The first process holds the lock. A disk without locks is only warned of. A
  folder that stays empty is removed. ValueError if another run holds the lock,
  or if a process does not see the first one's folder.
  """
  from msggan_jax.runtime import processes  # late: data need no JAX

  def refuse(holder: str) -> None:
    raise ValueError(
      f"{folder} is in use by another run ({holder or 'just started'}); wait "
      "for its end, stop it or choose another --workdir"
    )

  token = secrets.token_hex(8)
  with contextlib.ExitStack() as stack:
    with processes.raising_together():
      if processes.is_first():
        error = stack.enter_context(locked(folder / NAME, refuse, f"{token} "))
        if error:
          logging.warning(
            "%s: this disk has no locks (%s); start no second run here",
            folder / NAME,
            error,
          )
    token = processes.from_first(token)
    with processes.raising_together():
      processes.once_visible(lambda: _check_token(folder / NAME, token))
    try:
      yield
    finally:
      with contextlib.suppress(OSError):  # such as a mount point
        if processes.is_first() and os.listdir(folder) == [NAME]:
          (folder / NAME).unlink()
          folder.rmdir()


@contextlib.contextmanager
def locked(
  path: Path, busy: Callable[[str], None], token: str = ""
) -> Iterator[OSError | None]:
  """Create a file and its folder and lock it, also against other machines.

  The kernel releases it however this process ends. `busy` is called with the
  words of another process that holds the lock: it raises, or this waits. The
  holder may remove the folder. Yields the error of a disk without locks.
  """
  while True:
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
      if not _is_folder_or_gone(path.parent):
        raise
      continue  # the holder has removed the folder just now
    try:
      file = path.open("a+")
    except FileNotFoundError:
      if path.is_symlink():  # to nowhere
        raise
      continue  # as above
    with file:
      failed = None
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        file.seek(0)
        busy("".join(file.readline().strip().partition("process ")[1:]))
        fcntl.flock(file, fcntl.LOCK_EX)
      except OSError as error:
        failed = error
      if not _is_at(path, file.fileno()):
        continue
      file.truncate(0)
      file.write(f"{token}process {os.getpid()} on {socket.gethostname()}\n")
      file.flush()
      yield failed
      return


def _is_folder_or_gone(path: Path) -> bool:
  """Look once, because it may be made and removed at any time."""
  try:
    return stat.S_ISDIR(path.lstat().st_mode)
  except FileNotFoundError:
    return True


def _is_at(path: Path, file: int) -> bool:
  try:
    return os.path.samestat(os.fstat(file), path.stat())
  except FileNotFoundError:
    return False


def _check_token(path: Path, token: str) -> None:
  with contextlib.suppress(OSError):
    if path.read_text().startswith(token):
      return
  raise ValueError(
    f"{path.parent} is another folder than the first process's; put the "
    "workdir on a disk that all processes share"
  )
