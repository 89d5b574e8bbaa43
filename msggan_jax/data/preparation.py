"""Prepare a source once: choose the set's folder, reuse a finished set."""

import contextlib
import functools
import glob
import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL
from absl import logging

from msggan_jax.data import (
  description,
  fingerprint,
  holdout,
  partial_set,
  pixels,
  prepared_set,
  reading,
  run_data,
  set_writer,
)
from msggan_jax.data.sources import (
  OpenSource,
  Source,
  demo,
  folder,
  labels,
  tfds_sets,
)
from msggan_jax.models import base_grid as grids

# Sources by `dataset.name`; any other name belongs to TFDS.
_OPENERS: dict[str, Callable[[Any, int], OpenSource]] = {
  "cats": demo.open_cats,
  "earth": demo.open_earth,
  "folder": folder.open_folder,
  "lsun_church": folder.open_lsun,
}
# Their images change where they are; those of TFDS by another download only,
# the demo's never.
_OF_PATHS = ("folder", "lsun_church")


class OutOfDate(ValueError):
  """A source has changed since its set was prepared.

  Attributes:
    path: The set.
  """

  def __init__(self, path: Path, changes: Sequence[str]):
    super().__init__(f"{path} is out of date: {'; '.join(changes)}")
    self.path = path


def prepare(
  dataset: Any,
  resolution: int,
  channels: int,
  *,
  base_grid: str = grids.SQUARE,
  output: str | Path | None = None,
  strict: bool = False,
  num_classes: int = 0,
  content_hash: str = "",
  unchanged: bool = False,
) -> Path:
  """Prepare a data set, or return the one that is already prepared.

  If the source or a setting has changed since, another set is prepared beside
  the old one. A killed preparation resumes, and its set is identical to an
  uninterrupted one's.

  Args:
    dataset: Configuration with the fields `name`, `path`, `split`, `crop` and
      `data_dir`; `labels` and `holdout` may be missing.
    resolution: Side of square images in pixels, a power of two from 4.
    output: By default a folder in `dataset.data_dir` named after the data set.
    strict: Whether the first unusable image is an error; otherwise they are
      skipped and listed in `rejected.jsonl`.
    num_classes: The wanted number of classes; 0: any.
    content_hash: Of the images that a run was trained on; their set is
      returned if it exists, however the source has changed since.
    unchanged: Refuse a source that has changed instead.

  Raises:
    ValueError: If the set cannot be made; no files remain then.
    OutOfDate: If the source must be unchanged and is not.
  """
  _check_shape(dataset, resolution, channels)
  size = grids.image_size(resolution, grids.parse(base_grid))
  as_it_is = _prepared_source(dataset, (*size, channels))
  if as_it_is:
    if output:
      raise ValueError(f"{as_it_is} is prepared already; train on it as it is")
    return as_it_is
  wanted = _settings(dataset, resolution, channels, base_grid)
  target, partial = _outputs(dataset, (*size, channels), output)
  there = _sets_at(target, wanted)
  of_run = [
    path
    for path in (there if content_hash else ())
    if prepared_set.open_prepared(path).metadata.content_hash == content_hash
  ]
  if of_run and not unchanged:
    return of_run[0]
  with contextlib.ExitStack() as stack:

    def open_source() -> Source:
      return stack.enter_context(_open_source(dataset, max(size)))

    is_compared = not _is_away(dataset, there)
    source = open_source() if is_compared else None
    here = fingerprint.of(source) if source else None
    find = functools.partial(_find, target, wanted, here, of_run)
    if path := find():
      return _reuse(path, dataset, is_compared, strict)
    if there and unchanged:
      old = (of_run or there)[0]
      if changes := _changes(old, wanted, here, harmless=False):
        raise OutOfDate(old, changes)
    with partial_set.open_partial(partial) as work:
      if path := find():  # another process has made it
        return _reuse(path, dataset, is_compared, strict)
      source = source or open_source()
      check_classes(num_classes, len(source.class_names))
      return _write(source, work, target, wanted, strict)


def prepare_for(config: Any, dataset: Any = None, **options) -> Path:
  """Prepare a configuration's data set, or another one in the same shape.

  The options are those of `prepare`.
  """
  return prepare(
    config.dataset if dataset is None else dataset,
    config.resolution,
    config.channels,
    base_grid=config.base_grid,
    **options,
  )


def prepare_of_run(
  config: Any, data_dir: str, workdir: Path | None = None
) -> Path:
  """Prepare the data set of a run, or return the prepared one.

  It is the set that the run was trained on, if that is there still; otherwise
  the change is printed. The workdir may be somebody else's, so it does not
  choose where to write.

  Raises:
    ValueError: If the run keeps its set in another folder; as `prepare`.
  """
  known = run_data.read(workdir) if workdir else None
  known = known or run_data.RunData(class_names=None)
  if known.is_there():
    return Path(known.path)
  dataset = config.dataset.copy_and_resolve_references()
  theirs = dataset.data_dir or data_dir  # a shared file names no folder
  if Path(theirs) != Path(data_dir):
    raise ValueError(
      f"this run keeps its data set in {theirs}; if it may be written to, "
      f"add --data_dir={theirs}"
    )
  dataset.data_dir = theirs
  path = prepare_for(config, dataset, content_hash=known.content_hash)
  if changes := known.changes(prepared_set.open_prepared(path)):
    _say_once(
      f"{path} is not the data set that {workdir} was trained on: "
      f"{'; '.join(changes)}"
    )
  return path


def check_classes(num_classes: int, found: int) -> None:
  """Check the number of a data set's classes; the wanted one may be 0: any."""
  if num_classes and num_classes != found:
    raise ValueError(
      f"config.num_classes is {num_classes}, but the data set has {found} "
      "classes; 0 trains without labels, and config.dataset.labels says where "
      "a folder's labels come from"
    )


def count_images(dataset: Any, resolution: int) -> int:
  """Count the images to train on, before they are prepared.

  Unusable images are among them; prepared sets know their own number.
  """
  if metadata := _metadata_of(dataset):
    return metadata.num_images - metadata.num_holdout
  with _open_source(dataset, resolution) as source:
    num_images = len(source.names)
  return num_images - holdout.count(_parts(dataset)[1], num_images)


def count_classes(dataset: Any, resolution: int) -> int:
  """Count the classes of a data set before it is prepared."""
  if metadata := _metadata_of(dataset):
    return metadata.num_classes
  with _open_source(dataset, resolution) as source:
    return len(source.class_names)


@contextlib.contextmanager
def _open_source(dataset: Any, resolution: int) -> Iterator[Source]:
  """Open a source that has images, of which the hold-out leaves some."""
  opener = _OPENERS.get(dataset.name, tfds_sets.open_tfds)
  with opener(dataset, resolution) as source:
    if not source.names:
      unread = description.unread(set_writer.count_endings(source.unread))
      more = f", but files that are not read: {unread}" if unread else ""
      raise ValueError(f"{_source_name(dataset)} has no images{more}")
    holdout.check(_parts(dataset)[1], len(source.names))
    yield source


def _settings(
  dataset: Any, resolution: int, channels: int, base_grid: str
) -> dict[str, Any]:
  """Return the fields of a set's metadata that a preparation is asked for."""
  wanted_labels, wanted_holdout = _parts(dataset)
  return {
    "source": _source_name(dataset),
    "split": "" if dataset.name in _OF_PATHS else dataset.split,
    "crop": dataset.crop,
    "resolution": resolution,
    "channels": channels,
    "labels": wanted_labels,
    "holdout": wanted_holdout,
    "base_grid": base_grid,
  }


def _sets_at(target: Path, wanted: dict[str, Any]) -> list[Path]:
  """Return the sets at a target and beside it, the most similar first."""
  beside = target.parent.glob(glob.escape(target.name) + "-" + 8 * "[0-9a-f]")
  sets = [path for path in (target, *beside) if prepared_set.is_prepared(path)]

  def order(path: Path) -> tuple[int, int]:
    other = len(_changes(path, wanted, None))  # settings
    time = (path / prepared_set.METADATA_FILE).stat().st_mtime_ns
    return other, -time

  return sorted(sets, key=order)


def _is_away(dataset: Any, there: Sequence[Path]) -> bool:
  """Return whether a source cannot be compared with the sets made of it.

  It was removed or never downloaded, its disk is not mounted, or it is drawn.
  """
  if dataset.name not in _OF_PATHS:
    return dataset.name in _OPENERS or not tfds_sets.is_there(dataset)
  if not there:
    return False
  path = Path(dataset.path)
  try:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))
  except OSError:
    return True


def _find(
  target: Path,
  wanted: dict[str, Any],
  here: fingerprint.Fingerprint | None,
  preferred: Sequence[Path],
) -> Path | None:
  """Return a set of these settings and this source, if it is prepared."""
  there = _sets_at(target, wanted)
  fitting = [path for path in there if not _changes(path, wanted, here)]
  fitting.sort(key=lambda path: path not in preferred)
  return fitting[0] if fitting else None


def _changes(
  path: Path,
  wanted: dict[str, Any],
  here: fingerprint.Fingerprint | None,
  *,
  harmless: bool = True,
) -> list[str]:
  """Return what has changed since a set was prepared, in words.

  Args:
    here: The source as it is now; None: only the settings are compared.
    harmless: Also changes after which the images may be the same.
  """
  metadata = prepared_set.read_metadata(path)
  changes = [
    f"{field} was {getattr(metadata, field)!r}, is {value!r}"
    for field, value in wanted.items()
    if getattr(metadata, field) != value
  ]
  if not metadata.fingerprint:  # an older set
    return changes
  if harmless and metadata.version != fingerprint.VERSION:
    changes.append(
      f"the preparation's version was {metadata.version}, is "
      f"{fingerprint.VERSION}"
    )
  if here is not None and metadata.fingerprint != here.digest:
    before = fingerprint.read(path)
    found = fingerprint.differences(before, here)
    if harmless and not found:
      found = [fingerprint.newer(before, here) or "the order of its images"]
    changes += found
  return changes


def _reuse(path: Path, dataset: Any, is_compared: bool, strict: bool) -> Path:
  """Return a prepared set; say what is not known of it."""
  metadata = prepared_set.read_metadata(path)
  if strict and metadata.num_rejected:
    raise ValueError(
      f"{path} lacks {metadata.num_rejected} unusable images, listed in its "
      f"{prepared_set.REJECTED_FILE}"
    )
  if dataset.name in _OF_PATHS and not is_compared:
    _say_once(f"{dataset.path} is not there; using {path} as it was prepared")
  elif dataset.name in _OF_PATHS and not metadata.fingerprint:
    _say_once(
      f"{path} was prepared before sets kept a fingerprint of their source, so "
      "changes are not noticed; remove it to prepare it anew"
    )
  return path


def _write(
  source: Source,
  work: partial_set.PartialSet,
  target: Path,
  wanted: dict[str, Any],
  strict: bool,
) -> Path:
  """Prepare a set at the target, or beside the one that is there."""
  here = fingerprint.of(source)
  path = target
  if prepared_set.is_prepared(target):
    identity = json.dumps([wanted, fingerprint.VERSION, here.digest])
    suffix = hashlib.sha256(identity.encode()).hexdigest()[:8]
    path = target.with_name(f"{target.name}-{suffix}")
    old = _sets_at(target, wanted)[0]
    old = OutOfDate(old, _changes(old, wanted, here))
    _say_once(f"{old}; preparing anew in {path}")
  if path.exists() and not (path.is_dir() and not any(path.iterdir())):
    raise ValueError(f"{path} exists and is not a prepared data set")
  work.begin(_identity(source, here, wanted))
  _say_once(_size(source, wanted, path))
  set_writer.write_set(source, here, work, wanted, strict)
  work.move_to(path)
  if warning := description.imbalance(prepared_set.read_metadata(path)):
    logging.warning("%s: %s", path, warning)
  return path


def _size(source: Source, wanted: dict[str, Any], path: Path) -> str:
  grid = grids.parse(wanted["base_grid"])
  shape = (*grids.image_size(wanted["resolution"], grid), wanted["channels"])
  most = len(source.names) * math.prod(shape)
  free = shutil.disk_usage(path.parent).free
  return (
    f"preparing {len(source.names):,} images of {'x'.join(map(str, shape))} in "
    f"{path}: at most {max(most / 1e6, 0.1):,.1f} MB of "
    f"{free / 1e6:,.0f} MB that are free"
  )


@functools.cache
def _say_once(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _check_shape(dataset: Any, resolution: int, channels: int) -> None:
  pixels.check_resolution(resolution)
  if channels not in pixels.MODES:
    raise ValueError(f"channels: {channels} is none of {list(pixels.MODES)}")
  if dataset.crop not in pixels.CROPS:
    raise ValueError(
      f"dataset.crop: {dataset.crop!r} is none of {list(pixels.CROPS)}"
    )


def _parts(dataset: Any) -> tuple[str, float]:
  """Return where the labels come from, and the size of the hold-out.

  Configurations of older runs lack both.
  """
  kind = getattr(dataset, "labels", labels.NONE)
  if kind not in labels.KINDS:
    raise ValueError(
      f"dataset.labels: {kind!r} is none of {', '.join(labels.KINDS)}"
    )
  owner = "cats" if kind == labels.BODIES else "folder"
  if kind != labels.NONE and dataset.name != owner:
    owners = "the cats have" if owner == "cats" else "a folder or zip has"
    raise ValueError(
      f"dataset.labels is {kind}, but only {owners} such labels; choose none"
    )
  return kind, float(getattr(dataset, "holdout", 0.0))


def _metadata_of(dataset: Any) -> prepared_set.Metadata | None:
  """Return the metadata of the prepared set that a data set's path names."""
  path = Path(dataset.path)
  is_named = dataset.name == "folder" and dataset.path
  if is_named and prepared_set.is_prepared(path):
    return prepared_set.read_metadata(path)
  return None


def _prepared_source(dataset: Any, shape: tuple[int, int, int]) -> Path | None:
  """Return the prepared set that a data set's path names, if it does."""
  metadata, path = _metadata_of(dataset), Path(dataset.path)
  if metadata is None:
    return None
  wanted_labels, wanted_holdout = _parts(dataset)
  if wanted_labels != labels.NONE and not metadata.num_classes:
    raise ValueError(
      f"dataset.labels is {wanted_labels}, but {path} is prepared without "
      "labels; choose none, or prepare its source again"
    )
  if wanted_holdout not in (0, metadata.holdout):
    raise ValueError(
      f"dataset.holdout is {wanted_holdout:g}, but {path} is prepared with "
      f"{metadata.holdout:g}; choose that, or prepare its source again"
    )
  if (*metadata.size, metadata.channels) != shape:
    there = "{}x{} with {} channels".format(*metadata.size, metadata.channels)
    raise ValueError(
      f"{path} is prepared at {there}, but the configuration says "
      "{}x{} with {} channels (resolution, base_grid)".format(*shape)
    )
  return path


def _source_name(dataset: Any) -> str:
  if dataset.name == "folder":
    path = str(Path(dataset.path).resolve())
    return f"folder:{reading.printable_name(path)}"
  if dataset.name in _OPENERS:
    return dataset.name
  return f"tfds:{dataset.name}"


def _outputs(
  dataset: Any, shape: tuple[int, int, int], output: str | Path | None
) -> tuple[Path, Path]:
  """Return the folder of a set, and of its parts until it is complete.

  Sets that differ only in the hold-out share their parts.
  """
  if output:
    return Path(output), Path(output)
  if dataset.name == "folder":
    # The hash keeps two folders of the same name apart.
    path_hash = hashlib.sha256(_source_name(dataset).encode()).hexdigest()[:8]
    parts = [Path(dataset.path).resolve().stem, path_hash]
  else:
    parts = [dataset.name]
  if dataset.name not in _OF_PATHS:
    parts.append(dataset.split)
  if dataset.crop != "center":
    parts.append(dataset.crop)
  kind, size = _parts(dataset)
  if kind != labels.NONE:
    parts.append(Path(kind).stem)
  held = [f"holdout{size:g}"] if size else []
  names = [[*parts, *held, "x".join(map(str, shape))], [*parts, *shape]]
  target, partial = (
    re.sub(r"[^\w.+-]", "_", "-".join(map(str, name))) for name in names
  )
  folder = Path(dataset.data_dir)
  return folder / target, folder / partial


def _identity(
  source: Source, here: fingerprint.Fingerprint, wanted: dict[str, Any]
) -> dict[str, Any]:
  """Return everything that must be equal for a preparation to resume."""
  return wanted | {
    "holdout": None,  # the pieces do not depend on it
    "fingerprint": here.digest,
    "images": len(source.names),
    "piece_images": set_writer.PIECE_IMAGES,
    "pieces": 2,  # their format
    "pillow": PIL.__version__,
    "version": fingerprint.VERSION,
  }
