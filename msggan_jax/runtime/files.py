"""Files and folders that are complete and on the disk, or not there at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from msggan_jax.runtime.interrupts import remove, unfinished


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
  """Yield a temporary path; what the block makes there becomes `path` at once.

  That is a file, or a new folder. If `durable`, it reaches the disk before it
  is renamed. An error or a signal leaves nothing, a kill may leave a hidden
  `*.tmp`. Errors of the system name `path`.
  """
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  unfinished.add(temporary)
  try:
    with naming(path):
      yield temporary
      if durable:
        sync(temporary)
      temporary.replace(path)
      if durable:
        _sync(path.parent)
  finally:
    remove(temporary)
    unfinished.discard(temporary)


def write(path: Path, content: str | bytes) -> None:
  """Write a file, completely or not at all; see `replacing`."""
  if isinstance(content, str):
    content = content.encode()
  with replacing(path) as temporary:
    temporary.write_bytes(content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Let errors of the system name a path, such as those of a full disk."""
  try:
    yield
  except OSError as error:
    if error.filename is None and error.strerror:
      error.filename = str(path)
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
