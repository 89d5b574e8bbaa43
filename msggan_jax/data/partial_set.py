"""A set that is being prepared: what is finished of it outlives a kill.

Beside the target NAME lies a folder `.NAME.partial` with

  lock              held by the process at work, on any machine
  source.json       what is prepared, and of what
  piece-00000.json  about a piece whose images are all in their shard, ...
  set/              the shards; it becomes the target

Each file appears there complete or not at all, and a piece's only when its
shard is there. Whoever comes after a kill goes on behind the last of them.
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msggan_jax.data import prepared_set

_LOCK = "lock"
_SOURCE = "source.json"
_SET = "set"
_OURS = re.compile(rf"{_LOCK}|{_SOURCE}|{_SET}|piece-\d+\.json|.*\.tmp")


@dataclasses.dataclass(frozen=True)
class Piece:
  """What is known of some successive images of a source.

  Attributes:
    shard: Where they are.
    digests: The SHA-256 of each image's pixels and label, hexadecimal.
    sizes: Number of images by the bits of their shorter side.
    rejected: Names and reasons of those that were left out.
  """

  shard: prepared_set.Shard
  digests: list[str]
  sizes: dict[str, int]
  rejected: list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Unfinished:
  """The folder of a set that is being prepared."""

  folder: Path

  @property
  def set_path(self) -> Path:
    """Where the set is written."""
    return self.folder / _SET

  def read_pieces(self) -> list[Piece]:
    """Return the finished pieces, in order."""
    pieces = []
    for number in itertools.count():
      fields = _read_json(self._piece_path(number))
      if fields is None:
        return pieces
      shard = prepared_set.Shard(**fields.pop("shard"))
      if not shard.is_in(self.set_path):
        return pieces
      pieces.append(Piece(shard, **fields))

  def add_piece(self, number: int, piece: Piece) -> None:
    """Remember a piece whose shard is written."""
    _write_json(self._piece_path(number), dataclasses.asdict(piece))

  def move_to(self, target: Path) -> None:
    """Make the complete set the target.

    Args:
      target: Must not exist, or be an empty directory. If another machine has
        prepared the same set and was faster, its set stays.
    """
    for left in self.set_path.glob("*.tmp"):  # by kills
      left.unlink()
    try:
      self.set_path.rename(target)
    except OSError:
      if not prepared_set.is_prepared(target):
        raise
    shutil.rmtree(self.folder)

  def _piece_path(self, number: int) -> Path:
    return self.folder / f"piece-{number:05d}.json"


def remove(target: Path) -> None:
  """Remove what a kill has left beside a target that is complete."""
  folder = _folder_of(target)
  if folder.is_dir() and not _foreign(folder):
    # A set may be read by those who must not write beside it.
    with contextlib.suppress(OSError), _locked(folder):
      shutil.rmtree(folder)


@contextlib.contextmanager
def open_unfinished(
  target: Path, identity: Mapping[str, Any]
) -> Iterator[Unfinished]:
  """Give the folder of a set that is being prepared, to go on or begin.

  It stays if the block is left by an error that has not to do with the input,
  and for good only `move_to` ends it.

  Args:
    target: Of the complete set.
    identity: What is prepared, of what, in JSON; what is there of another is
      removed.

  Yields:
    The folder, which no other process uses.

  Raises:
    ValueError: If something else lies where the folder would. Any ValueError
      of the block removes the folder.
  """
  folder = _folder_of(target)
  with _locked(folder):
    if foreign := _foreign(folder):
      raise ValueError(
        f"{folder}, where the set would be prepared, holds {foreign!r}, which "
        "belongs to something else; move it away"
      )
    if _read_json(folder / _SOURCE) != identity:
      _clear(folder)
      _write_json(folder / _SOURCE, identity)
    unfinished = Unfinished(folder)
    unfinished.set_path.mkdir(exist_ok=True)
    try:
      yield unfinished
    except ValueError:
      shutil.rmtree(folder)
      raise


def _folder_of(target: Path) -> Path:
  return target.with_name(f".{target.name}.partial")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Let machines that share a disk take turns."""
  path = folder / _LOCK
  while True:
    folder.mkdir(parents=True, exist_ok=True)
    try:
      lock = path.open("w")
    except FileNotFoundError:  # another one has finished just now
      continue
    with lock:
      # Without locks on their disk, machines write the same at the same time.
      with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
      if path.exists() and os.path.samestat(
        os.fstat(lock.fileno()), path.stat()
      ):
        yield
        return


def _foreign(folder: Path) -> str:
  """Return the name of something that no preparation has made, or ""."""
  names = [entry.name for entry in folder.iterdir()]
  return next((name for name in names if not _OURS.fullmatch(name)), "")


def _clear(folder: Path) -> None:
  for entry in folder.iterdir():
    if entry.name == _SET:
      shutil.rmtree(entry)
    elif entry.name != _LOCK:
      entry.unlink()


def _read_json(path: Path) -> Any:
  """Return what is in a file; None if it is not there or not complete."""
  try:
    return json.loads(path.read_bytes())
  except (FileNotFoundError, ValueError):
    return None


def _write_json(path: Path, value: Any) -> None:
  with prepared_set.replacing(path) as temporary:
    temporary.write_text(json.dumps(value), encoding="utf-8")
