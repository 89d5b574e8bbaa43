"""A partly prepared set, whose finished pieces survive a kill.

Beside the target NAME, the folder `.NAME.partial` holds

  lock              held by the preparing process, on any machine
  source.json       source and settings of the set
  piece-00000.json  metadata of a piece whose shard is complete, ...
  set/              the shards; it becomes the target

Files appear atomically, a piece's metadata after its shard. After a kill, the
next process continues after the last piece.
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
from typing import Any, NamedTuple

from msggan_jax.data import prepared_set

_LOCK = "lock"
_SOURCE = "source.json"
_SET = "set"
_OURS = re.compile(rf"{_LOCK}|{_SOURCE}|{_SET}|piece-\d+\.json|.*\.tmp")


class Entry(NamedTuple):
  """What is known of an image beside its pixels."""

  digest: str  # SHA-256 of its pixels and label, hexadecimal
  bits: int  # of its shorter side before resizing
  number: int  # in the source
  label: int
  thumbnail: str  # see `duplicates.thumbnail`


@dataclasses.dataclass(frozen=True)
class Piece:
  """Successive images of a source, and the reasons of the rejected ones."""

  shard: prepared_set.Shard
  images: list[Entry]
  rejected: list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class PartialSet:
  """The folder of a partly prepared set."""

  folder: Path

  @property
  def set_path(self) -> Path:
    """Folder of the set itself."""
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
      images = [Entry(*entry) for entry in fields["images"]]
      pieces.append(Piece(shard, images, fields["rejected"]))

  def add_piece(self, number: int, piece: Piece) -> None:
    """Record a piece whose shard is complete."""
    _write_json(self._piece_path(number), dataclasses.asdict(piece))

  def move_to(self, target: Path) -> None:
    """Rename the complete set to the target, which is missing or empty.

    If another machine has finished the same set first, that set is kept.
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
  """Remove the remains of a kill beside a complete target."""
  folder = _folder_of(target)
  if folder.is_dir() and not _foreign(folder):
    # Readers of a set may lack the right to write beside it.
    with contextlib.suppress(OSError), _locked(folder):
      shutil.rmtree(folder)


@contextlib.contextmanager
def open_partial(
  target: Path, identity: Mapping[str, Any]
) -> Iterator[PartialSet]:
  """Open or create the folder of a partly prepared set, exclusively.

  A ValueError in the block removes the folder, as `move_to` does; it survives
  other errors. The remains of a set of another identity are removed.
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
    partial = PartialSet(folder)
    partial.set_path.mkdir(exist_ok=True)
    try:
      yield partial
    except ValueError:
      shutil.rmtree(folder)
      raise


def _folder_of(target: Path) -> Path:
  return target.with_name(f".{target.name}.partial")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Let machines that share a disk work one at a time."""
  path = folder / _LOCK
  while True:
    folder.mkdir(parents=True, exist_ok=True)
    try:
      lock = path.open("w")
    except FileNotFoundError:  # another one has finished just now
      continue
    with lock:
      # A disk without locks: several machines then write the same bytes.
      with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
      if path.exists() and os.path.samestat(
        os.fstat(lock.fileno()), path.stat()
      ):
        yield
        return


def _foreign(folder: Path) -> str:
  """Return the name of an entry that no preparation makes, or ""."""
  names = [entry.name for entry in folder.iterdir()]
  return next((name for name in names if not _OURS.fullmatch(name)), "")


def _clear(folder: Path) -> None:
  for entry in folder.iterdir():
    if entry.name == _SET:
      shutil.rmtree(entry)
    elif entry.name != _LOCK:
      entry.unlink()


def _read_json(path: Path) -> Any:
  """Return a file's JSON; None if it is missing or incomplete."""
  try:
    return json.loads(path.read_bytes())
  except (FileNotFoundError, ValueError):
    return None


def _write_json(path: Path, value: Any) -> None:
  with prepared_set.replacing(path) as temporary:
    temporary.write_text(json.dumps(value), encoding="utf-8")
