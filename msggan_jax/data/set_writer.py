"""Write a prepared set: crop, resize and check all images of a source."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from msggan_jax.data import (
  duplicates,
  fingerprint,
  holdout,
  pictures,
  pixels,
  prepared_set,
  reading,
)
from msggan_jax.data.partial_set import Entry, PartialSet, Piece
from msggan_jax.data.sources import NOT_AN_IMAGE, Source
from msggan_jax.models import base_grid
from msggan_jax.runtime import progress
from msggan_jax.runtime.machine import usable_cores

CLASS_SHEETS = "classes"  # folder with a contact sheet for each class
PIECE_IMAGES = 4096  # of the source; a kill loses at most one piece
_CONTACT_SHEET_IMAGES = 64
_MOST_CLASS_SHEETS = 100
_CONTACT_SHEET_CELL = 128  # largest side of one image on it, in pixels

_T = TypeVar("_T")
_memory = reading.Budget(2**30)  # bytes of files that threads read


def write_set(
  source: Source,
  here: fingerprint.Fingerprint,
  work: PartialSet,
  wanted: dict[str, Any],
  strict: bool,
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
  bar = progress.bar(total, "Preparing", "images", done=first, brief=True)

  def count(made: Iterable[_T]) -> Iterator[_T]:
    for picture in made:
      bar.update()
      yield picture

  with _quiet_pillow(), bar, contextlib.closing(made):
    ready = count(made)
    while len(pieces) * PIECE_IMAGES < total:
      piece = _make_piece(
        writer,
        itertools.islice(ready, PIECE_IMAGES),
        wanted["source"] if strict else "",
      )
      work.add_piece(len(pieces), piece)
      pieces.append(piece)
  writer.close()
  _finish(
    work.set_path,
    pieces,
    wanted=wanted,
    source=source,
    here=here,
    size=size,
    strict=strict,
  )


def _make_picture(
  source: Source, index: int, shape: dict[str, Any]
) -> tuple[bytes, Entry | dict[str, str]]:
  """Return a PNG and its entry, or b"" and why the image is rejected."""
  name = reading.printable_name(source.names[index])
  try:
    with _memory.take(source.num_bytes(index)):
      image, label = reading.read(lambda: source.load(index), name)
      bits = min(image.size).bit_length()
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
  writer: prepared_set.RecordWriter,
  ready: Iterable[tuple[bytes, Any]],
  strict_source: str,
) -> Piece:
  """Write the next shard; raise ValueError at an image that is rejected."""
  images, rejected = [], []

  def records() -> Iterator[tuple[bytes, int]]:
    for png, entry in ready:
      if png:
        images.append(entry)
        yield png, entry.label
      else:
        rejected.append(entry)
        if strict_source:
          raise ValueError(_describe_rejected(rejected, strict_source))

  return Piece(writer.add(records()), images, rejected)


def _finish(
  path: Path,
  pieces: Sequence[Piece],
  *,
  wanted: dict[str, Any],
  source: Source,
  here: fingerprint.Fingerprint,
  size: tuple[int, int],
  strict: bool,
) -> None:
  """Write a set's metadata, contact sheets, hold-out and lists of images."""
  rejected = [entry for piece in pieces for entry in piece.rejected]
  images = [entry for piece in pieces for entry in piece.images]
  if rejected and (strict or not images):
    raise ValueError(_describe_rejected(rejected, wanted["source"]))
  labels = [entry.label for entry in images]
  digests = [entry.digest for entry in images]
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
    class_counts=_count_by_class(labels, source.class_names),
    rejected=_count_reasons(rejected, size),
    unread=count_endings(source.unread),
    fingerprint=here.digest,
    version=fingerprint.VERSION,
  )
  written = prepared_set.PreparedSet(path, metadata)
  groups = duplicates.find_groups(
    [entry.thumbnail for entry in images],
    digests,
    # Comparisons in a row have an image in common.
    functools.lru_cache(16)(lambda index: written[index]["image"]),
  )
  held = holdout.choose(wanted["holdout"], digests, groups)
  here.write(path)
  _write_rows(path / prepared_set.REJECTED_FILE, rejected)
  _write_rows(
    path / prepared_set.UNREAD_FILE,
    [
      {"name": reading.printable_name(name), "reason": reason}
      for name, reason in source.unread
    ],
  )
  names = [reading.printable_name(source.names[e.number]) for e in images]
  _write_rows(
    path / prepared_set.DUPLICATES_FILE,
    [{"images": group, "names": [names[i] for i in group]} for group in groups],
  )
  if source.class_names:
    prepared_set.write_labels(path, labels)
  held_labels = [labels[i] for i in held]
  holdout.write(path, held, _count_by_class(held_labels, source.class_names))
  _write_contact_sheets(written, labels)
  metadata = dataclasses.replace(
    metadata, num_holdout=len(held), num_duplicates=sum(map(len, groups))
  )
  prepared_set.write_metadata(path, metadata)


def _count_reasons(
  rows: Sequence[dict[str, str]], size: tuple[int, int]
) -> dict[str, int]:
  """Count rejected images by the kind of the reason."""
  kinds = collections.Counter(row["reason"].partition(":")[0] for row in rows)
  width, height = size[::-1]
  # In the words of the field that decides.
  names = {"too small": f"smaller than {width}x{height} (--config.resolution)"}
  return {names.get(kind, kind): count for kind, count in kinds.items()}


def count_endings(unread: Sequence[tuple[str, str]]) -> dict[str, int]:
  """Count the files of a source that are not read, by ending and reason."""
  kinds = collections.Counter()
  for name, reason in unread:
    ending = PurePath(name).suffix.lower()
    why = reason.partition(":")[0]  # without the remedy
    if reason == NOT_AN_IMAGE:
      kinds[ending or "without an ending"] += 1
    else:
      kinds[f"{ending} ({why})" if ending else why] += 1
  return dict(kinds)


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
  texts = (f"{item['name']}: {item['reason']}" for item in rejected)
  some = reading.listed(texts, 3, "; ")
  return f"unusable images in {source}: {len(rejected)} ({some})"


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
    sheet.append(pixels.fit(pixels.to_image(image), crop="center", **shape))
  pictures.save_sheet(pictures.grid(np.stack(sheet)), path)
