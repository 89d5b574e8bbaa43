"""Write a prepared set: crop, resize and check all images of a source."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msggan_jax.data import (
  arrays,
  duplicates,
  fingerprint,
  holdout,
  pictures,
  pixels,
  prepared_set,
  reading,
  record_writer,
  values,
)
from msggan_jax.data.partial_set import Entry, PartialSet, Piece
from msggan_jax.data.sources import Source
from msggan_jax.runtime import progress
from msggan_jax.runtime.machine import map_in_order

PIECE_IMAGES = 4096  # of the source; a kill loses at most one piece
_CONTACT_SHEET_IMAGES = 64
_CONTACT_SHEET_CELL = 128  # largest side of one image on it, in pixels

_T = TypeVar("_T")


def write_set(
  source: Source,
  work: PartialSet,
  wanted: prepared_set.Metadata,
  strict: bool,
) -> None:
  """Write the prepared set of a source after its finished pieces."""
  total = len(source.names)
  wanted = dataclasses.replace(wanted, class_names=source.class_names)
  pieces = work.read_pieces()
  rejected = [entry for piece in pieces for entry in piece.rejected]
  if strict and rejected:
    raise ValueError(describe_rejected(rejected, wanted.source))
  lengths = [len(piece.images) for piece in pieces if piece.images]
  writer = record_writer.RecordWriter(work.set_path, wanted, lengths)
  first = min(len(pieces) * PIECE_IMAGES, total)
  make = picture_maker(
    wanted.size, wanted.channels, wanted.crop, wanted.value_range
  )
  look = _look_of(wanted)
  made = map_in_order(
    lambda index: _make_picture(source, index, make, look), range(first, total)
  )
  bar = progress.bar(total, "Preparing", "images", done=first, brief=True)
  quiet = warnings.catch_warnings(action="ignore")  # Pillow's, on metadata
  with quiet, bar, contextlib.closing(made):
    while len(pieces) * PIECE_IMAGES < total:
      next_ones = itertools.islice(made, PIECE_IMAGES)
      piece = _make_piece(
        writer, next_ones, bar.update, wanted.source if strict else ""
      )
      work.add_piece(len(pieces), piece)
      pieces.append(piece)
  writer.close()
  _finish(work.set_path, pieces, source, wanted)


def picture_maker(
  size: tuple[int, int],
  channels: int,
  crop: str,
  value_range: values.Range | None = None,
) -> Callable[[Any], np.ndarray]:
  """Return what makes a source's image one that is stored, (H, W, C)."""
  if value_range is None:
    return lambda image: pixels.fit(image, size, channels, crop)

  def make(image: arrays.Values) -> np.ndarray:
    array = arrays.checked(image, channels)
    with reading.in_turn(4 * array.size):
      fitted = pixels.fit_values(value_range.shares(array), size, crop)
    return value_range.quantize(fitted)

  return make


def _look_of(wanted: prepared_set.Metadata) -> Callable[[Any], np.ndarray]:
  """Return what makes uint8 of a stored image, to find near-duplicates.

  Values may fill little of the range of all, and are compared by their own.
  """
  return pictures.stretched if wanted.values else pictures.to_levels


def make_one(
  source: Source, index: int, make: Callable[[Any], _T]
) -> tuple[_T, int] | dict[str, str]:
  """Load an image and make something of it; return that and the label.

  Of an unusable image the name and the reason; ValueError if its files do not
  say enough.
  """
  name = source.names[index]
  try:
    with reading.in_turn(source.num_bytes(index)):
      image, label = reading.read(lambda: source.load(index), name)
      return make(image), label
  except pixels.Question as error:
    raise ValueError(f"{name}: {error}") from error
  except reading.DiskError:
    raise
  except Exception as error:  # damaged files raise errors of a dozen types
    return {"name": name, "reason": reading.reason_of(error)}


def _make_picture(
  source: Source,
  index: int,
  make: Callable[[Any], np.ndarray],
  look: Callable[[np.ndarray], np.ndarray],
) -> tuple[bytes, Entry | dict[str, str]]:
  """Return an image and its entry, or b"" and why it is rejected."""
  found = make_one(source, index, make)
  if isinstance(found, dict):
    return b"", found
  fitted, label = found
  digest = prepared_set.digest_of(fitted, label).hex()
  shown = pictures.view(look(fitted))
  entry = Entry(digest, index, label, duplicates.thumbnail(shown))
  return prepared_set.encode(fitted), entry


def _make_piece(
  writer: record_writer.RecordWriter,
  made: Iterable[tuple[bytes, Any]],
  count: Callable[[], Any],
  strict_source: str,
) -> Piece:
  """Write the next shard; raise ValueError at an image that is rejected."""
  images, rejected = [], []

  def records() -> Iterator[tuple[bytes, int]]:
    for encoded, entry in made:
      count()
      if encoded:
        images.append(entry)
        yield encoded, entry.label
      else:
        rejected.append(entry)
        if strict_source:
          raise ValueError(describe_rejected(rejected, strict_source))

  file = writer.add(records())
  shard = {file.name: file.stat().st_size} if file else {}
  return Piece(shard, images, rejected)


def _finish(
  path: Path,
  pieces: Sequence[Piece],
  source: Source,
  wanted: prepared_set.Metadata,
) -> None:
  images = [entry for piece in pieces for entry in piece.images]
  rejected = [entry for piece in pieces for entry in piece.rejected]
  if not images:
    raise ValueError(describe_rejected(rejected, wanted.source))
  unread = [{"name": name, "reason": why} for name, why in source.unread]
  labels = [entry.label for entry in images]
  digests = [entry.digest for entry in images]
  counts = collections.Counter(labels)
  metadata = dataclasses.replace(
    wanted,
    num_images=len(labels),
    num_rejected=len(rejected),
    content_hash=prepared_set.content_hash_of(digests),
    class_counts=tuple(counts[i] for i in range(wanted.num_classes)),
    rejected=_count_reasons(rejected, wanted.size),
    unread=_count_reasons(unread, wanted.size),
    fingerprint=source.fingerprint.digest,
    version=fingerprint.version(wanted.range),
  )
  written = prepared_set.PreparedSet(path, metadata)
  look = _look_of(wanted)
  groups = duplicates.find_groups(
    [entry.thumbnail for entry in images],
    digests,
    # Comparisons in a row have an image in common.
    functools.lru_cache(16)(lambda i: look(written[i]["image"])),
  )
  names = [source.names[entry.number] for entry in images]
  together = groups
  if wanted.group_by:  # somebody knows better
    together = holdout.by_pattern(wanted.group_by, names)
  held = holdout.choose(wanted.holdout, digests, together)
  source.fingerprint.write(path)
  for name, rows in (
    (prepared_set.REJECTED_FILE, rejected),
    (prepared_set.UNREAD_FILE, unread),
    (
      prepared_set.DUPLICATES_FILE,
      [{"images": g, "names": [names[i] for i in g]} for g in groups],
    ),
  ):
    if rows:
      (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
  if source.class_names:
    prepared_set.write_labels(path, labels)
  if held:
    holdout.write(path, held)
  _write_contact_sheet(written)
  metadata = dataclasses.replace(
    metadata, num_holdout=len(held), num_duplicates=sum(map(len, groups))
  )
  prepared_set.write_metadata(path, metadata)


def _count_reasons(
  rows: Sequence[dict[str, str]], size: tuple[int, int]
) -> dict[str, int]:
  """Count rejected images, or unread files, by the kind of the reason."""
  kinds = collections.Counter(row["reason"].partition(":")[0] for row in rows)
  width, height = size[::-1]
  # In the words of the field that decides.
  names = {"too small": f"smaller than {width}x{height} (--config.resolution)"}
  return {names.get(kind, kind): count for kind, count in kinds.items()}


def describe_rejected(rejected: list[dict[str, str]], source: str) -> str:
  """Return a sentence of images that are not usable."""
  texts = (f"{item['name']}: {item['reason']}" for item in rejected)
  some = reading.listed(texts, 3, "; ")
  return f"unusable images in {source}: {len(rejected)} ({some})"


def _write_contact_sheet(images: prepared_set.PreparedSet) -> None:
  count = min(_CONTACT_SHEET_IMAGES, len(images))
  chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
  shown = [images.metadata.view(images.levels(int(i))) for i in chosen]
  height, width, channels = shown[0].shape
  share = min(1.0, _CONTACT_SHEET_CELL / max(images.metadata.size))
  size = round(height * share), round(width * share)
  cells = [
    pixels.fit(pixels.to_image(image), size, channels, "center")
    for image in shown
  ]
  file = images.path / prepared_set.CONTACT_SHEET_FILE
  pictures.save_sheet(pictures.grid(np.stack(cells)), file)
