"""Write a prepared set: crop, resize and check all images of a source."""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from msggan_jax.data import (
  duplicates,
  holdout,
  pictures,
  pixels,
  prepared_set,
  reading,
)
from msggan_jax.data.partial_set import Entry, PartialSet, Piece
from msggan_jax.data.sources.source import Source
from msggan_jax.models import base_grid
from msggan_jax.runtime.machine import usable_cores

CLASS_SHEETS = "classes"  # folder with a contact sheet for each class
PIECE_IMAGES = 4096  # of the source; a kill loses at most one piece
_PROGRESS_SECS = 30  # between two lines without a terminal
_LARGE_PIXELS = 2**26  # decoded, such an image can take a gigabyte
_CONTACT_SHEET_IMAGES = 64
_MOST_CLASS_SHEETS = 100
_CONTACT_SHEET_CELL = 128  # largest side of one image on it, in pixels

_T = TypeVar("_T")
_one_large_image = threading.Lock()


def write_set(
  source: Source, work: PartialSet, wanted: dict[str, Any], strict: bool
) -> None:
  """Write the prepared set of a source after its finished pieces."""
  size = base_grid.image_size(
    wanted["resolution"], base_grid.parse(wanted["base_grid"])
  )
  shape = {"size": size, "channels": wanted["channels"], "crop": wanted["crop"]}
  total = len(source.names)
  pieces = work.read_pieces()
  writer = prepared_set.RecordWriter(
    work.set_path,
    size=size,
    channels=shape["channels"],
    has_labels=bool(source.class_names),
    shards=[piece.shard for piece in pieces],
  )
  first = min(len(pieces) * PIECE_IMAGES, total)
  made = _map_in_order(
    lambda index: _make_picture(source, index, shape), range(first, total)
  )
  between_secs = 0.1 if sys.stderr.isatty() else _PROGRESS_SECS
  progress = tqdm(
    made,
    "Preparing",
    total,
    unit=" images",
    initial=first,
    leave=False,
    mininterval=between_secs,
    delay=between_secs,
  )
  with _quiet_pillow(), contextlib.closing(made):
    ready = iter(progress)
    while len(pieces) * PIECE_IMAGES < total:
      piece = _make_piece(writer, itertools.islice(ready, PIECE_IMAGES))
      work.add_piece(len(pieces), piece)
      pieces.append(piece)
  writer.close()
  _finish(work.set_path, pieces, wanted=wanted, source=source, strict=strict)


def _make_picture(
  source: Source, index: int, shape: dict[str, Any]
) -> tuple[bytes, Entry | dict[str, str]]:
  """Return a PNG and its entry, or b"" and why the image is rejected."""
  name = reading.printable_name(source.names[index])
  try:
    image, label = reading.read(lambda: source.load(index), name)
    bits = min(image.size).bit_length()
    large = image.width * image.height > _LARGE_PIXELS
    with _one_large_image if large else contextlib.nullcontext():
      fitted = pixels.fit(image, **shape)
  except reading.DiskError:
    raise
  except Exception as error:  # damaged files raise errors of a dozen types
    return b"", {"name": name, "reason": reading.reason_of(error)}
  digest = prepared_set.digest_of(fitted, label).hex()
  thumbnail = duplicates.thumbnail(fitted)
  entry = Entry(digest, bits, index, label, thumbnail)
  return pixels.encode_png(fitted), entry


def _make_piece(
  writer: prepared_set.RecordWriter, ready: Iterable[tuple[bytes, Any]]
) -> Piece:
  images, rejected = [], []

  def records() -> Iterator[tuple[bytes, int]]:
    for png, entry in ready:
      if png:
        images.append(entry)
        yield png, entry.label
      else:
        rejected.append(entry)

  return Piece(writer.add(records()), images, rejected)


def _finish(
  path: Path,
  pieces: Sequence[Piece],
  *,
  wanted: dict[str, Any],
  source: Source,
  strict: bool,
) -> None:
  """Write a set's metadata, contact sheets, hold-out and lists of images."""
  rejected = [entry for piece in pieces for entry in piece.rejected]
  images = [entry for piece in pieces for entry in piece.images]
  if rejected and (strict or not images):
    raise ValueError(_describe_rejected(rejected, wanted["source"]))
  _write_rows(path / prepared_set.REJECTED_FILE, rejected)
  labels = [entry.label for entry in images]
  digests = [entry.digest for entry in images]
  groups = duplicates.find_groups([entry.thumbnail for entry in images])
  held = holdout.choose(wanted["holdout"], digests, groups)
  names = [reading.printable_name(source.names[e.number]) for e in images]
  _write_rows(
    path / prepared_set.DUPLICATES_FILE,
    [{"images": group, "names": [names[i] for i in group]} for group in groups],
  )
  class_counts = _count_by_class(labels, source.class_names)
  if source.class_names:
    prepared_set.write_labels(path, labels)
  if held:
    held_labels = [labels[i] for i in held]
    counts = _count_by_class(held_labels, source.class_names)
    holdout.write(path, held, counts)
  sizes = collections.Counter(entry.bits for entry in images)
  metadata = prepared_set.Metadata(
    **wanted,
    num_images=len(labels),
    num_rejected=len(rejected),
    class_names=source.class_names,
    source_sizes={
      f"{2 ** (bits - 1)}-{2**bits - 1}": sizes[bits] for bits in sorted(sizes)
    },
    content_hash=prepared_set.write_digests(path, digests),
    class_counts=class_counts,
    num_holdout=len(held),
    num_duplicates=sum(map(len, groups)),
  )
  _write_contact_sheets(prepared_set.PreparedSet(path, metadata), labels)
  prepared_set.write_metadata(path, metadata)


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
  if rows:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _count_by_class(
  labels: Sequence[int], class_names: tuple[str, ...]
) -> tuple[int, ...]:
  if not class_names:
    return ()
  counts = np.bincount(np.array(labels, int), minlength=len(class_names))
  return tuple(counts.tolist())


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


def _describe_rejected(rejected: list[dict[str, str]], source: str) -> str:
  examples = "; ".join(
    f"{reading.one_line(item['name'])}: {item['reason']}"
    for item in rejected[:3]
  )
  more = "; ..." if len(rejected) > 3 else ""
  return f"unusable images in {source}: {len(rejected)} ({examples}{more})"


def _write_contact_sheets(
  images: prepared_set.PreparedSet, labels: Sequence[int]
) -> None:
  """Write a contact sheet of all images, and one for each class."""
  sheet = images.path / prepared_set.CONTACT_SHEET_FILE
  _write_contact_sheet(images, np.arange(len(images)), sheet)
  class_names = images.metadata.class_names
  for label, name in enumerate(class_names[:_MOST_CLASS_SHEETS]):
    own = np.flatnonzero(np.array(labels) == label)
    if len(own):
      safe_name = re.sub(r"[^\w.+-]", "_", name)[:80]
      sheet = images.path / CLASS_SHEETS / f"{label:03d}-{safe_name}.png"
      _write_contact_sheet(images, own, sheet)


def _write_contact_sheet(
  images: prepared_set.PreparedSet, numbers: np.ndarray, path: Path
) -> None:
  count = min(_CONTACT_SHEET_IMAGES, len(numbers))
  chosen = np.linspace(0, len(numbers) - 1, count).round().astype(int)
  height, width = images.metadata.size
  share = min(1.0, _CONTACT_SHEET_CELL / max(height, width))
  size = round(height * share), round(width * share)
  shape = {"size": size, "channels": images.metadata.channels}
  sheet = []
  for number in numbers[chosen]:
    image = images[int(number)]["image"]
    image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    sheet.append(pixels.fit(image, crop="center", **shape))
  pictures.save_png(pictures.grid(np.stack(sheet)), path)
