"""The folder of a partly prepared set, whose finished pieces survive a kill.

Beside the target NAME, `.NAME.partial` holds

  lock              held by the preparing process, on any machine
  source.json       source and settings of the set
  piece-00000.json  metadata of a piece whose shard is complete, ...
  set/              the shards; it becomes the target

Files appear atomically, a piece's metadata after its shard. After a kill, the
next process continues after the last piece.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msggan_jax.data import prepared_set
from msggan_jax.runtime import files, folder_lock

_LOCK = "lock"
_SOURCE = "source.json"
_SET = "set"
_OURS = re.compile(rf"{_LOCK}|{_SOURCE}|{_SET}|piece-\d+\.json|.*\.tmp")


class Entry(NamedTuple):
  """What is known of an image beside its pixels."""

  digest: str  # SHA-256 of its pixels and label, hexadecimal
  number: int  # in the source
  label: int
  thumbnail: str  # see `duplicates.thumbnail`


@dataclasses.dataclass(frozen=True)
class Piece:
  """Successive images of a source, and the reasons of the rejected ones."""

  shard: dict[str, int]  # name and bytes of its file; empty without images
  images: list[Entry]
  rejected: list[dict[str, str]]


@dataclasses.dataclass
class PartialSet:
  """The folder of a partly prepared set."""

  folder: Path
  set_path: Path  # of the set itself
  begun: bool = False  # its pieces are of this preparation

  def begin(self, identity: Mapping[str, Any]) -> None:
    """Keep the pieces of a preparation of this identity, and no others."""
    if _read_json(self.folder / _SOURCE) != identity:
      for entry in self.folder.iterdir():
        if entry.name != _LOCK:
          files.remove(entry)
      files.write(self.folder / _SOURCE, json.dumps(identity))
    self.set_path.mkdir(exist_ok=True)
    self.begun = True

  def read_pieces(self) -> list[Piece]:
    """Return the finished pieces, in order."""
    pieces = []
    for number in itertools.count():
      fields = _read_json(self._piece_path(number))
      if fields is None:
        return pieces
      piece = Piece(**fields)
      for name, num_bytes in piece.shard.items():
        file = self.set_path / name
        if not file.is_file() or file.stat().st_size != num_bytes:
          return pieces
      images = [Entry(*entry) for entry in piece.images]
      pieces.append(dataclasses.replace(piece, images=images))

  def add_piece(self, number: int, piece: Piece) -> None:
    """Record a piece whose shard is complete."""
    content = json.dumps(dataclasses.asdict(piece))
    files.write(self._piece_path(number), content)

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

  def _piece_path(self, number: int) -> Path:
    return self.folder / f"piece-{number:05d}.json"


@contextlib.contextmanager
def open_partial(target: Path) -> Iterator[PartialSet]:
  """Open or create the folder of a partly prepared set, exclusively.

  It is removed after the block or a ValueError in it, with the folders that
  were made for it. It survives other errors, and pieces survive a ValueError
  before the preparation that they belong to has begun.
  """
  folder = target.with_name(f".{target.name}.partial")
  new = [path for path in folder.parents if not path.exists()]

  def wait_for(holder: str) -> None:
    holder = holder or "another process"
    print(
      f"waiting for {holder}, which prepares {folder}",
      file=sys.stderr,
      flush=True,
    )

  with folder_lock.locked(folder / _LOCK, wait_for) as error:
    if error:
      print(
        f"{folder}: this disk has no locks ({error}); prepare with one process",
        file=sys.stderr,
        flush=True,
      )
    for entry in folder.iterdir():
      if not _OURS.fullmatch(entry.name):
        raise ValueError(
          f"{folder}, where the set would be prepared, holds {entry.name!r}, "
          "which belongs to something else; move it away"
        )
    partial = PartialSet(folder, folder / _SET)
    try:
      yield partial
    except ValueError:
      if partial.begun or not (folder / _SOURCE).exists():
        _remove(folder)
        for path in new:
          with contextlib.suppress(OSError):
            path.rmdir()
      raise
    _remove(folder)


def _remove(folder: Path) -> None:
  """Remove a folder that others may wait for, and then use under its name."""
  hidden = folder.with_name(f"{folder.name}-{os.urandom(4).hex()}.tmp")
  folder.rename(hidden)
  files.remove(hidden)


def _read_json(path: Path) -> Any:
  """Return a file's JSON; None if it is missing or incomplete."""
  try:
    return json.loads(path.read_bytes())
  except (FileNotFoundError, ValueError):
    return None
