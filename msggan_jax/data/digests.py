"""SHA-256 of every image of a prepared set, to recognise an image later."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msggan_jax.data import prepared_set

_FILE = "digests.bin"  # of all images, in order


def digest(image: np.ndarray, label: int) -> bytes:
  """Return the SHA-256 of an image's pixels and label, 32 bytes."""
  made = hashlib.sha256(np.ascontiguousarray(image))
  made.update(label.to_bytes(8, "little", signed=True))
  return made.digest()


def read(images: prepared_set.PreparedSet) -> list[bytes]:
  """Return the digests of a set's images when it was prepared.

  They are [] if they do not belong to the set's content hash, or if the set is
  older than this file.
  """
  try:
    all_bytes = (images.path / _FILE).read_bytes()
  except FileNotFoundError:
    return []
  whole = prepared_set.read_metadata(images.path)
  if hashlib.sha256(all_bytes).hexdigest() != whole.content_hash:
    return []
  return [all_bytes[32 * i : 32 * i + 32] for i in images.numbers]


def write(path: Path, digests: Sequence[str]) -> str:
  """Write a set's digests, hexadecimal; return the set's content hash."""
  all_bytes = bytes.fromhex("".join(digests))
  (path / _FILE).write_bytes(all_bytes)
  return hashlib.sha256(all_bytes).hexdigest()
