"""A manifest of checksums: a folder is complete, and its files are unchanged.

It is written last.
"""

import hashlib
import itertools
import json
from pathlib import Path, PurePosixPath

from msggan_jax.runtime import files, jsonl

NAME = "manifest.json"


def write(folder: Path) -> None:
  """Write the bytes and SHA-256 of every file in a folder, atomically.

  All files reach the disk before, so the manifest means a complete folder.
  """
  files.sync(folder)
  content = {
    str(path.relative_to(folder)): [path.stat().st_size, _digest(path)]
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }
  files.write(folder / NAME, json.dumps(content, indent=1))


def exists(folder: Path) -> bool:
  """Return whether the folder has a manifest, without reading files."""
  return (folder / NAME).is_file()


def find_damage(folder: Path) -> str | None:
  """Return the first difference between a folder and its manifest, or None.

  The folder may be somebody else's: nothing outside of it is read.
  """
  paths = itertools.chain([folder], folder.rglob("*"))
  link = next((path for path in paths if path.is_symlink()), None)
  if link is not None:
    return f"{link} is a symbolic link, which no checkpoint has"
  try:
    listed = jsonl.parse((folder / NAME).read_text(errors="replace")) or {}
    expected = [
      (str(name), int(size), str(digest))
      for name, (size, digest) in listed.items()
    ]
  except OSError:
    return f"it has no {NAME}"
  except (ValueError, TypeError, OverflowError):  # of an entry
    expected = []
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


def _is_inside(name: str) -> bool:
  path = PurePosixPath(name)
  return (
    name.isprintable() and not path.is_absolute() and ".." not in path.parts
  )


def _digest(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
