"""Prepare a source once: crop, resize, check and write all of its images."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from msggan_jax.data import demo, folder, pixels, prepared, tfds_sets
from msggan_jax.data.sources import OpenSource, Source

# Sources by `dataset.name`; any other name belongs to TFDS.
_OPENERS: dict[str, Callable[[Any, int], OpenSource]] = {
  "cats": demo.open_cats,
  "earth": demo.open_earth,
  "folder": folder.open_folder,
  "lsun_church": folder.open_lsun,
}
_WITHOUT_SPLIT = ("folder", "lsun_church")
_PROGRESS_SECS = 30  # between two lines where there is no terminal
_CONTACT_SHEET_IMAGES = 64
_CONTACT_SHEET_CELL = 128  # largest side of one image on it, in pixels

_T = TypeVar("_T")


def prepare(
  dataset: Any,
  resolution: int,
  channels: int,
  *,
  output: str | Path | None = None,
  strict: bool = False,
) -> Path:
  """Prepare a data set unless that has been done before.

  Args:
    dataset: Configuration with the fields `name`, `path`, `split`, `crop` and
      `data_dir`.
    resolution: Side of the images in pixels, a power of two from 4.
    channels: 1 (grey), 3 (RGB) or 4 (RGBA).
    output: Directory of the prepared set, by default one within
      `dataset.data_dir` named after the data set.
    strict: Whether an image that cannot be used is an error; otherwise it is
      listed in `rejected.jsonl` and left out.

  Returns:
    Directory of the prepared set, for `open_prepared`.

  Raises:
    ValueError: If a field is wrong, the source is missing or has no usable
      image, or `output` holds something else. Nothing is written then.
  """
  _check_shape(dataset, resolution, channels)
  if dataset.name == "folder" and dataset.path:
    path = Path(dataset.path).expanduser()
    if prepared.is_prepared(path):
      return _use_as_is(path, resolution, channels, output)
  wanted = {
    "source": _source_name(dataset),
    "split": "" if dataset.name in _WITHOUT_SPLIT else dataset.split,
    "crop": dataset.crop,
    "resolution": resolution,
    "channels": channels,
  }
  target = Path(output or _default_output(dataset, resolution, channels))
  target = target.expanduser()
  with _one_at_a_time(target):
    if prepared.is_prepared(target):
      _check_same(target, wanted, strict)
      logging.info("Using the prepared data set %s", target)
      return target
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
      raise ValueError(f"{target} exists and is not a prepared data set")

    open_source = _OPENERS.get(dataset.name, tfds_sets.open_tfds)
    with open_source(dataset, resolution) as source:
      if not source.names:
        raise ValueError(f"there is no image in {wanted['source']}")
      with prepared.new_directory(target) as directory:
        _write(source, directory, wanted, strict)
  logging.info("Prepared the data set %s", target)
  return target


@contextlib.contextmanager
def _one_at_a_time(target: Path) -> Iterator[None]:
  """Let one process of a machine prepare a set while the others wait.

  The lock lies outside of the data, where nothing is left after an error. On
  machines that share a disk the first set to be ready stays.
  """
  name = hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:16]
  path = Path(tempfile.gettempdir(), f"msggan_jax-{os.getuid()}-{name}.lock")
  with path.open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def _check_shape(dataset: Any, resolution: int, channels: int) -> None:
  if resolution < 4 or resolution & (resolution - 1):
    raise ValueError(
      f"resolution: {resolution} is not a power of two from 4 up"
    )
  if channels not in pixels.MODES:
    raise ValueError(f"channels: {channels} is none of {list(pixels.MODES)}")
  if dataset.crop not in pixels.CROPS:
    raise ValueError(
      f"dataset.crop: {dataset.crop!r} is none of {list(pixels.CROPS)}"
    )


def _use_as_is(
  path: Path, resolution: int, channels: int, output: str | Path | None
) -> Path:
  metadata = prepared.read_metadata(path)
  if output:
    raise ValueError(f"{path} is prepared already; train on it as it is")
  if (metadata.resolution, metadata.channels) != (resolution, channels):
    raise ValueError(
      f"{path} is prepared at resolution {metadata.resolution} with "
      f"{metadata.channels} channels, but the configuration says resolution "
      f"{resolution} with {channels} channels"
    )
  logging.info("Using the prepared data set %s", path)
  return path


def _check_same(target: Path, wanted: dict[str, Any], strict: bool) -> None:
  metadata = prepared.read_metadata(target)
  for field, value in wanted.items():
    if getattr(metadata, field) != value:
      raise ValueError(
        f"{target} was prepared with {field} {getattr(metadata, field)!r}, not "
        f"{value!r}; remove it or choose another place"
      )
  if strict and metadata.num_rejected:
    raise ValueError(
      f"{target} lacks {metadata.num_rejected} unusable images, listed in its "
      f"{prepared.REJECTED_FILE}"
    )


def _source_name(dataset: Any) -> str:
  if dataset.name == "folder":
    return f"folder:{Path(dataset.path).expanduser().resolve()}"
  if dataset.name in _OPENERS:
    return dataset.name
  return f"tfds:{dataset.name}"


def _default_output(dataset: Any, resolution: int, channels: int) -> Path:
  if dataset.name == "folder":
    # The hash keeps two folders of the same name apart.
    path_hash = hashlib.sha256(_source_name(dataset).encode()).hexdigest()[:8]
    parts = [Path(dataset.path).expanduser().resolve().stem, path_hash]
  else:
    parts = [dataset.name]
  if dataset.name not in _WITHOUT_SPLIT:
    parts.append(dataset.split)
  if dataset.crop != "center":
    parts.append(dataset.crop)
  parts.append(f"{resolution}x{resolution}x{channels}")
  return Path(dataset.data_dir, re.sub(r"[^\w.+-]", "_", "-".join(parts)))


@dataclasses.dataclass(frozen=True)
class _Square:
  """One image, ready to be written, or the reason why it is not."""

  name: str
  png: bytes = b""
  label: int = 0
  shorter_side: int = 0  # before resizing
  digest: bytes = b""
  reason: str = ""


def _make_square(source: Source, index: int, shape: dict[str, Any]) -> _Square:
  name = source.names[index]
  try:
    image, label = source.load(index)
    shorter_side = min(image.size)
    square = pixels.to_square(image, **shape)
  except Exception as error:  # damaged files raise errors of a dozen types
    reason = str(error) or type(error).__name__
    return _Square(name, reason=reason)
  digest = hashlib.sha256(np.ascontiguousarray(square))
  digest.update(label.to_bytes(8, "little", signed=True))
  png = pixels.encode_png(square)
  return _Square(name, png, label, shorter_side, digest.digest())


def _write(
  source: Source, directory: Path, wanted: dict[str, Any], strict: bool
) -> None:
  """Write the prepared set of a source into an empty directory."""
  shape = {key: wanted[key] for key in ("resolution", "channels", "crop")}
  content_hash = hashlib.sha256()
  sizes = collections.Counter()
  rejected = []

  def records(squares: Iterable[_Square]) -> Iterator[tuple[bytes, int]]:
    for square in squares:
      if square.reason:
        rejected.append({"name": square.name, "reason": square.reason})
        continue
      content_hash.update(square.digest)
      sizes[square.shorter_side.bit_length()] += 1
      yield square.png, square.label

  with (
    _quiet_pillow(),
    contextlib.closing(
      _map_in_order(
        lambda index: _make_square(source, index, shape), len(source.names)
      )
    ) as squares,
  ):
    prepared.write_records(
      directory,
      records(_with_progress(squares, len(source.names))),
      resolution=shape["resolution"],
      channels=shape["channels"],
      has_labels=bool(source.class_names),
    )
  num_images = sum(sizes.values())
  if rejected and (strict or not num_images):
    raise ValueError(_describe_rejected(rejected, wanted["source"]))
  if rejected:
    with open(directory / prepared.REJECTED_FILE, "w", encoding="utf-8") as f:
      f.writelines(json.dumps(item) + "\n" for item in rejected)
  metadata = prepared.Metadata(
    **wanted,
    num_images=num_images,
    num_rejected=len(rejected),
    class_names=source.class_names,
    source_sizes={
      f"{2 ** (bits - 1)}-{2**bits - 1}": sizes[bits] for bits in sorted(sizes)
    },
    content_hash=content_hash.hexdigest(),
  )
  _write_contact_sheet(prepared.PreparedSet(directory, metadata))
  prepared.write_metadata(directory, metadata)


def _map_in_order(function: Callable[[int], _T], count: int) -> Iterator[_T]:
  """Map a function over 0, 1, ... with threads, a bounded distance ahead.

  Threads do: Pillow releases the GIL where it decodes, resizes and encodes.
  """
  threads = min(32, os.cpu_count() or 1)
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    pending = collections.deque()
    for index in range(count):
      pending.append(pool.submit(function, index))
      if len(pending) > 4 * threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
  """Make too many pixels an error, and ignore what Pillow says of metadata."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    yield


def _with_progress(squares: Iterable[_T], total: int) -> Iterator[_T]:
  """Show a bar on a terminal, otherwise a line every half minute."""
  if sys.stderr.isatty():
    yield from tqdm(squares, "Preparing", total, unit=" images", leave=False)
    return
  last_secs = time.monotonic()
  for done, square in enumerate(squares):
    if time.monotonic() - last_secs > _PROGRESS_SECS:
      last_secs = time.monotonic()
      print(f"Preparing: {done:,} of {total:,} images", file=sys.stderr)
    yield square


def _describe_rejected(rejected: list[dict[str, str]], source: str) -> str:
  examples = "; ".join(
    f"{item['name']}: {item['reason']}" for item in rejected[:3]
  )
  more = "; ..." if len(rejected) > 3 else ""
  return f"unusable images in {source}: {len(rejected)} ({examples}{more})"


def _write_contact_sheet(images: prepared.PreparedSet) -> None:
  from msggan_jax.images import grid, save_png  # they import JAX: late

  count = min(_CONTACT_SHEET_IMAGES, len(images))
  chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
  cell = min(_CONTACT_SHEET_CELL, images.metadata.resolution)
  shape = {"resolution": cell, "channels": images.metadata.channels}
  sheet = []
  for index in chosen:
    image = images[int(index)]["image"]
    image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    sheet.append(pixels.to_square(image, crop="center", **shape))
  save_png(grid(np.stack(sheet)), images.path / prepared.CONTACT_SHEET_FILE)
