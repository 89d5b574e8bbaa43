"""Write a prepared set: crop, resize and check all images of a source."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from msggan_jax.data import (
  patience,
  pictures,
  pixels,
  prepared_set,
  rejection,
)
from msggan_jax.data.partial_set import PartialSet, Piece
from msggan_jax.data.sources.source import Source
from msggan_jax.runtime.cores import usable_cores

PIECE_IMAGES = 4096  # of the source; a kill loses at most one piece
_PROGRESS_SECS = 30  # between two lines without a terminal
_LARGE_PIXELS = 2**26  # decoded, such an image can take a gigabyte
_CONTACT_SHEET_IMAGES = 64
_CONTACT_SHEET_CELL = 128  # largest side of one image on it, in pixels

_T = TypeVar("_T")
_one_large_image = threading.Lock()


def write_set(
  source: Source,
  work: PartialSet,
  wanted: dict[str, Any],
  strict: bool,
) -> None:
  """Write the prepared set of a source after its finished pieces.

  Args:
    source: The images.
    work: The folder, perhaps begun by a killed process.
    wanted: The settings, as fields of `prepared_set.Metadata`.
    strict: Whether an unusable image is an error.

  Raises:
    ValueError: If an image is unusable and `strict`, or if all are.
    OSError: If the disk fails repeatedly.
  """
  shape = {key: wanted[key] for key in ("resolution", "channels", "crop")}
  total = len(source.names)
  pieces = work.read_pieces()
  writer = prepared_set.RecordWriter(
    work.set_path,
    resolution=shape["resolution"],
    channels=shape["channels"],
    has_labels=bool(source.class_names),
    shards=[piece.shard for piece in pieces],
  )
  first = min(len(pieces) * PIECE_IMAGES, total)
  with (
    _quiet_pillow(),
    contextlib.closing(
      _map_in_order(
        lambda index: _make_square(source, index, shape), range(first, total)
      )
    ) as squares,
  ):
    squares = _with_progress(squares, first, total)
    while len(pieces) * PIECE_IMAGES < total:
      piece = _make_piece(writer, itertools.islice(squares, PIECE_IMAGES))
      work.add_piece(len(pieces), piece)
      pieces.append(piece)
  writer.close()
  _finish(
    work.set_path,
    pieces,
    wanted=wanted,
    class_names=source.class_names,
    strict=strict,
  )


@dataclasses.dataclass(frozen=True)
class _Square:
  """One image, ready to be written, or the reason for its rejection."""

  name: str
  png: bytes = b""
  label: int = 0
  shorter_side: int = 0  # before resizing
  digest: bytes = b""
  reason: str = ""


def _make_square(source: Source, index: int, shape: dict[str, Any]) -> _Square:
  name = rejection.printable_name(source.names[index])
  try:
    image, label = patience.read(lambda: source.load(index), name)
    shorter_side = min(image.size)
    large = image.width * image.height > _LARGE_PIXELS
    with _one_large_image if large else contextlib.nullcontext():
      square = pixels.to_square(image, **shape)
  except patience.DiskError:
    raise
  except Exception as error:  # damaged files raise errors of a dozen types
    return _Square(name, reason=rejection.reason(error))
  digest = prepared_set.digest(square, label)
  png = pixels.encode_png(square)
  return _Square(
    name,
    png=png,
    label=label,
    shorter_side=shorter_side,
    digest=digest,
  )


def _make_piece(
  writer: prepared_set.RecordWriter, squares: Iterable[_Square]
) -> Piece:
  digests, sizes, rejected = [], collections.Counter(), []

  def records() -> Iterator[tuple[bytes, int]]:
    for square in squares:
      if square.reason:
        rejected.append({"name": square.name, "reason": square.reason})
        continue
      digests.append(square.digest.hex())
      sizes[str(square.shorter_side.bit_length())] += 1
      yield square.png, square.label

  shard = writer.add(records())
  return Piece(shard, digests, dict(sizes), rejected)


def _finish(
  path: Path,
  pieces: Sequence[Piece],
  *,
  wanted: dict[str, Any],
  class_names: tuple[str, ...],
  strict: bool,
) -> None:
  """Write a set's metadata, contact sheet and list of rejected images."""
  rejected = [item for piece in pieces for item in piece.rejected]
  num_images = sum(piece.shard.num_images for piece in pieces)
  if rejected and (strict or not num_images):
    raise ValueError(_describe_rejected(rejected, wanted["source"]))
  if rejected:
    with open(path / prepared_set.REJECTED_FILE, "w", encoding="utf-8") as f:
      f.writelines(json.dumps(item) + "\n" for item in rejected)
  digests = bytes.fromhex("".join(d for piece in pieces for d in piece.digests))
  (path / prepared_set.DIGESTS_FILE).write_bytes(digests)
  sizes = collections.Counter()
  for piece in pieces:
    sizes.update({int(bits): n for bits, n in piece.sizes.items()})
  metadata = prepared_set.Metadata(
    **wanted,
    num_images=num_images,
    num_rejected=len(rejected),
    class_names=class_names,
    source_sizes={
      f"{2 ** (bits - 1)}-{2**bits - 1}": sizes[bits] for bits in sorted(sizes)
    },
    content_hash=hashlib.sha256(digests).hexdigest(),
  )
  _write_contact_sheet(prepared_set.PreparedSet(path, metadata))
  prepared_set.write_metadata(path, metadata)


def _map_in_order(
  function: Callable[[int], _T], indices: Iterable[int]
) -> Iterator[_T]:
  """Map a function over indices with threads, a bounded distance ahead.

  Threads do: Pillow releases the GIL where it decodes, resizes and encodes.
  """
  threads = min(32, usable_cores())
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    pending = collections.deque()
    for index in indices:
      pending.append(pool.submit(function, index))
      if len(pending) > 4 * threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
  """Make too many pixels an error; ignore Pillow's warnings on metadata."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    yield


def _with_progress(
  squares: Iterable[_T], first: int, total: int
) -> Iterator[_T]:
  """Show a bar on a terminal, otherwise a line every half minute."""
  if sys.stderr.isatty():
    yield from tqdm(
      squares, "Preparing", total, unit=" images", leave=False, initial=first
    )
    return
  last_secs = time.monotonic()
  for done, square in enumerate(squares, first):
    if time.monotonic() - last_secs > _PROGRESS_SECS:
      last_secs = time.monotonic()
      print(f"Preparing: {done:,} of {total:,} images", file=sys.stderr)
    yield square


def _describe_rejected(rejected: list[dict[str, str]], source: str) -> str:
  examples = "; ".join(
    f"{rejection.one_line(item['name'])}: {item['reason']}"
    for item in rejected[:3]
  )
  more = "; ..." if len(rejected) > 3 else ""
  return f"unusable images in {source}: {len(rejected)} ({examples}{more})"


def _write_contact_sheet(images: prepared_set.PreparedSet) -> None:
  count = min(_CONTACT_SHEET_IMAGES, len(images))
  chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
  cell = min(_CONTACT_SHEET_CELL, images.metadata.resolution)
  shape = {"resolution": cell, "channels": images.metadata.channels}
  sheet = []
  for index in chosen:
    image = images[int(index)]["image"]
    image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    sheet.append(pixels.to_square(image, crop="center", **shape))
  path = images.path / prepared_set.CONTACT_SHEET_FILE
  pictures.save_png(pictures.grid(np.stack(sheet)), path)
