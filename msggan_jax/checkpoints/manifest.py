"""Checksums of a folder's files, to detect a damaged folder."""

import hashlib
import itertools
import json
import os
from pathlib import Path, PurePosixPath

NAME = "manifest.json"

# Errors of reading a malformed manifest.
_DAMAGES = (
  ValueError,
  TypeError,
  AttributeError,
  OverflowError,
  RecursionError,
)


def write(folder: Path) -> None:
  """Write `manifest.json`: bytes and SHA-256 of every file in the folder.

  It is written atomically after all files have reached the disk, so its
  existence means that the folder is complete.
  """
  for path in (*folder.rglob("*"), folder):
    _sync(path)
  files = {
    str(path.relative_to(folder)): [path.stat().st_size, _digest(path)]
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }
  temporary = folder / f".{NAME}"
  with temporary.open("w") as file:
    json.dump(files, file, indent=1)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(folder / NAME)
  _sync(folder)


def exists(folder: Path) -> bool:
  """Return whether the folder has a manifest, without reading files."""
  return (folder / NAME).is_file()


def problem(folder: Path) -> str | None:
  """Compare the folder with its manifest.

  The folder may be somebody else's: nothing outside of it is read.

  Returns:
    The first problem, for a message; None if all files are unchanged.
  """
  link = _first_link(folder)
  if link is not None:
    return f"{link} is a symbolic link, which no checkpoint has"
  try:
    files = json.loads((folder / NAME).read_bytes())
    expected = [
      (str(name), int(size), str(digest))
      for name, (size, digest) in files.items()
    ]
  except OSError:
    return f"it has no {NAME}"
  except _DAMAGES:
    return f"its {NAME} is damaged"
  if not expected:
    return f"its {NAME} is damaged"
  if not all(_is_inside(name) for name, _, _ in expected):
    return f"its {NAME} names a path outside the folder"
  for name, size, digest in expected:
    path = folder / name
    try:
      if not path.is_file():  # such as a pipe, which would block
        return f"{name} is missing"
      if path.stat().st_size != size:
        return f"{name} has {path.stat().st_size} bytes instead of {size}"
      if _digest(path) != digest:
        return f"{name} has changed"
    except (OSError, ValueError):
      return f"{name} is missing"
  return None


def _sync(path: Path) -> None:
  """Wait until a file or the names in a folder have reached the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _first_link(folder: Path) -> Path | None:
  paths = itertools.chain([folder], folder.rglob("*"))
  return next((path for path in paths if path.is_symlink()), None)


def _is_inside(name: str) -> bool:
  path = PurePosixPath(name)
  return (
    name.isprintable() and not path.is_absolute() and ".." not in path.parts
  )


def _digest(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
