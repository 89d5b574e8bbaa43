"""Arrays of weight files in the user's cache, under the file's hash."""

import contextlib
import hashlib
import secrets
import zipfile
from pathlib import Path

import numpy as np

from msggan_jax.runtime import machine

Arrays = dict[str, np.ndarray]


def place(weight_file: Path) -> Path:
  """Return the cache path of a file's arrays, below $XDG_CACHE_HOME.

  Raises:
    FileNotFoundError: If the file does not exist.
  """
  if not weight_file.is_file():
    raise FileNotFoundError(f"{weight_file}: no such file")
  with weight_file.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  return machine.cache_folder() / f"{digest}.npz"


def load(path: Path) -> Arrays | None:
  """Return the arrays; None if they are missing or damaged."""
  try:
    with path.open("rb") as file, np.load(file) as arrays:
      return dict(arrays)  # the archive's checksums are compared
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def save(path: Path, arrays: Arrays) -> None:
  """Write arrays atomically.

  A read-only home is no error: the file is converted again the next time.
  """
  with contextlib.suppress(OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.npz")
    try:
      np.savez(temporary, **arrays)
      temporary.replace(path)
    finally:
      temporary.unlink(missing_ok=True)
