"""Prepare a source once: choose the set's folder, reuse a finished set."""

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

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
  survey,
  values,
)
from msggan_jax.data.sources import (
  OF_PATHS,
  OpenSource,
  Source,
  checked,
  demo,
  folder,
  labels,
  lsun,
  tfds_sets,
)
from msggan_jax.models import base_grid as grids
from msggan_jax.runtime.errors import counted

# Sources by `dataset.name`; any other name belongs to TFDS.
_OPENERS: dict[str, Callable[[Any, int], OpenSource]] = {
  "cats": demo.open_cats,
  "earth": demo.open_earth,
  "folder": folder.open_folder,
  "lsun_church": lsun.open_lsun,
}


class OutOfDate(ValueError):
  """A source has changed since its set, at `path`, was prepared."""

  def __init__(self, path: Path, changes: Sequence[str]):
    super().__init__(f"{path} is out of date: {'; '.join(changes)}")
    self.path = path


def prepare(
  config: Any,
  dataset: Any = None,
  *,
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
    config: Its fields `resolution`, `channels`, `base_grid` and `dataset`
      count; `dataset.labels` and `dataset.holdout` may be missing.
    dataset: Instead of the configuration's.
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
  dataset = checked(config.dataset if dataset is None else dataset)
  wanted = _wanted(config, dataset)
  if given := _given_set(dataset, wanted):
    if output:
      raise ValueError(f"{given} is prepared already; train on it as it is")
    return given
  _check_range(wanted)
  target = _target(dataset, wanted, output)
  sets = _sets_at(target, wanted, content_hash)
  if content_hash and sets and not unchanged:
    if prepared_set.content_hash(sets[0]) == content_hash:
      return sets[0]
  with contextlib.ExitStack() as stack:
    opened = _open_source(dataset, max(wanted.size))
    is_away = _is_away(dataset, sets)
    source = None if is_away else stack.enter_context(opened)

    def reusable() -> Path | None:
      there = _sets_at(target, wanted, content_hash)
      return next((s for s in there if not _changes(s, wanted, source)), None)

    if path := reusable():
      return _reuse(path, dataset, source, strict)
    if sets and unchanged:
      if changes := _changes(sets[0], wanted, source, harmless=False):
        raise OutOfDate(sets[0], changes)
    with partial_set.open_partial(target) as work:
      if path := reusable():  # another process has made it
        return _reuse(path, dataset, source, strict)
      source = source or stack.enter_context(opened)
      check_classes(num_classes, len(source.class_names))
      return _write(source, work, target, wanted, strict)


def prepare_of_run(
  config: Any, data_dir: str, workdir: Path | None = None
) -> Path:
  """Prepare the data set of a run, or return the prepared one.

  It is the set that the run was trained on, if that is there still; otherwise
  the change is printed. The workdir may be somebody else's, so it does not
  choose where a set is written.

  Raises:
    ValueError: If the run keeps its set in another folder; as `prepare`.
  """
  known = run_data.read(workdir) if workdir else None
  known = known or run_data.RunData()
  if known.is_there():
    return Path(known.path)
  for path in (Path(data_dir), *sorted(Path(data_dir).glob("*"))):
    with contextlib.suppress(ValueError):  # another set, which is damaged
      copy = dataclasses.replace(known, path=str(path))
      if copy.is_there() and not copy.changes(prepared_set.open_prepared(path)):
        return path
  dataset = config.dataset.copy_and_resolve_references()
  theirs = dataset.data_dir  # a shared file names no folder
  if theirs and Path(theirs) != Path(data_dir):
    raise ValueError(
      f"this run keeps its data set in {theirs}; if it may be written to, "
      f"add --data_dir={theirs}"
    )
  dataset.data_dir = data_dir
  path = prepare(config, dataset, content_hash=known.content_hash)
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
      f"classes; choose {found}, and say in config.dataset.labels where a "
      "folder's labels come from"
    )


def count_images(config: Any) -> int:
  """Count the images to train on, before they are prepared.

  Unusable images are among them; prepared sets know their own number.
  """
  return _count(config)[0]


def count_classes(config: Any) -> int:
  """Count the classes of a data set before it is prepared."""
  return _count(config)[1]


def _count(config: Any) -> tuple[int, int]:
  dataset = checked(config.dataset)
  metadata = _metadata_of(dataset)
  if not metadata:
    wanted = _wanted(config, dataset)
    sets = _sets_at(_target(dataset, wanted, None), wanted, "")
    sets = [path for path in sets if not _changes(path, wanted, None)]
    if sets and _is_away(dataset, sets):
      metadata = prepared_set.read_metadata(sets[0])
  if metadata:
    return metadata.num_images - metadata.num_holdout, metadata.num_classes
  with _open_source(dataset, config.resolution) as source:
    total = len(source.names)
    left = total - holdout.count(dataset.holdout, total)
    return left, len(source.class_names)


@contextlib.contextmanager
def _open_source(dataset: Any, resolution: int) -> Iterator[Source]:
  """Open a source that has images, of which the hold-out leaves some."""
  opener = _OPENERS.get(dataset.name, tfds_sets.open_tfds)
  with opener(dataset, resolution) as source:
    if not source.names:
      name = _source_name(dataset)
      raise ValueError(description.too_few(name, 0, source.unread))
    holdout.check(dataset.holdout, len(source.names))
    yield source


def _wanted(config: Any, dataset: Any) -> prepared_set.Metadata:
  """Return the metadata of a set whose images are not prepared yet."""
  pixels.check_resolution(config.resolution)
  grids.parse(config.base_grid)
  return prepared_set.Metadata(
    source=_source_name(dataset),
    split="" if dataset.name in OF_PATHS else dataset.split,
    crop=dataset.crop,
    resolution=config.resolution,
    channels=config.channels,
    labels=dataset.labels,
    holdout=float(dataset.holdout),
    base_grid=config.base_grid,
    range=dataset.range,
    layout=dataset.layout,
    group_by=dataset.group_by,
  )


def _check_range(wanted: prepared_set.Metadata) -> None:
  if wanted.range:
    values.parse(wanted.range, wanted.channels)
  elif wanted.channels not in pixels.MODES:
    raise ValueError(
      f"channels: {wanted.channels} is none of {list(pixels.MODES)}; others "
      "are values, which need their range: --range=LOW:HIGH "
      "(--config.dataset.range)"
    )


def _sets_at(
  target: Path, wanted: prepared_set.Metadata, content_hash: str
) -> list[Path]:
  """Return the sets at a target and beside it, the most suitable first.

  That is the one with these images, then the most similar and newest.
  """
  beside = target.parent.glob(glob.escape(target.name) + "-" + 8 * "[0-9a-f]")

  def order(path: Path) -> tuple[bool, int, int]:
    is_of_run = content_hash and prepared_set.content_hash(path) == content_hash
    other = len(_changes(path, wanted, None))  # settings
    time = (path / prepared_set.METADATA_FILE).stat().st_mtime_ns
    return not is_of_run, other, -time

  return sorted(filter(prepared_set.is_prepared, (target, *beside)), key=order)


def _is_away(dataset: Any, sets: Sequence[Path]) -> bool:
  """Return whether a source cannot be compared with the sets made of it.

  It was removed or never downloaded, its disk is not mounted, or it is drawn.
  """
  if dataset.name not in OF_PATHS:
    return dataset.name in _OPENERS or not tfds_sets.is_there(dataset)
  if not sets:
    return False
  path = Path(dataset.path)
  try:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))
  except OSError:
    return True


def _changes(
  path: Path,
  wanted: prepared_set.Metadata,
  source: Source | None,
  *,
  harmless: bool = True,
) -> list[str]:
  """Return what has changed since a set was prepared, in words.

  Args:
    source: As it is now; None: only the settings are compared.
    harmless: Also changes after which the images may be the same.
  """
  metadata = prepared_set.read_metadata(path)
  before, now = metadata.settings, wanted.settings
  changes = [
    f"{field} was {before[field]!r}, is {now[field]!r}"
    for field in now
    if before[field] != now[field]
  ]
  if not metadata.fingerprint:  # an older set
    return changes
  version = fingerprint.version(wanted.range)
  if harmless and metadata.version != version:
    changes.append(
      f"the preparation's version was {metadata.version}, is {version}"
    )
  if source and metadata.fingerprint != source.fingerprint.digest:
    before, here = fingerprint.read(path), source.fingerprint
    found = fingerprint.differences(before, here)
    if harmless and not found:
      found = [fingerprint.newer(before, here) or "the order of its images"]
    changes += found
  return changes


def _reuse(
  path: Path, dataset: Any, source: Source | None, strict: bool
) -> Path:
  """Return a prepared set; say what is not known of it."""
  metadata = prepared_set.read_metadata(path)
  if strict and metadata.num_rejected:
    raise ValueError(
      f"{path} lacks {counted(metadata.num_rejected, 'unusable image')}, "
      f"listed in its {prepared_set.REJECTED_FILE}"
    )
  if dataset.name in OF_PATHS and not source:
    _say_once(f"{dataset.path} is not there; using {path} as it was prepared")
  elif dataset.name in OF_PATHS and not metadata.fingerprint:
    _say_once(
      f"{path} was prepared before sets kept a fingerprint of their source, so "
      "changes are not noticed; remove it to prepare it anew"
    )
  return path


def _write(
  source: Source,
  work: partial_set.PartialSet,
  target: Path,
  wanted: prepared_set.Metadata,
  strict: bool,
) -> Path:
  """Prepare a set at the target, or beside the one that is there."""
  path = target
  # Everything that must be equal for a preparation to resume.
  identity = wanted.settings | {
    "fingerprint": source.fingerprint.digest,
    "images": len(source.names),
    "piece_images": set_writer.PIECE_IMAGES,
    "pieces": 6,  # their format
    "pillow": PIL.__version__,
    "version": fingerprint.version(wanted.range),
  }
  if prepared_set.is_prepared(target):
    suffix = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    path = target.with_name(f"{target.name}-{suffix}")
    old = _sets_at(target, wanted, "")[0]
    old = OutOfDate(old, _changes(old, wanted, source))
    _say_once(f"{old}; preparing anew in {path}")
  if path.exists() and not (path.is_dir() and not any(path.iterdir())):
    raise ValueError(f"{path} exists and is not a prepared data set")
  if path.is_symlink() or os.path.ismount(path):
    raise ValueError(
      f"{path} is a link or a mount point, which a complete set cannot "
      "replace; choose a folder in it"
    )
  if wanted.group_by:  # before the work
    groups = holdout.by_pattern(wanted.group_by, source.names)
    holdout.choose(wanted.holdout, source.names, groups)
  work.begin(identity)
  if wanted.range:
    wanted, lines = survey.survey(source, wanted)
    _say_once("\n".join(lines))
  num_bytes = math.prod(wanted.shape) * np.dtype(wanted.dtype).itemsize
  most = max(len(source.names) * num_bytes / 1e6, 0.1)
  shape = "x".join(map(str, wanted.shape))
  as_type = f" {wanted.dtype}" if wanted.range else ""
  free = shutil.disk_usage(path.parent).free / 1e6
  _say_once(
    f"preparing {counted(len(source.names), 'image')} of "
    f"{shape}{as_type} in {path}: at most {most:,.1f} MB "
    f"of {free:,.0f} MB that are free"
  )
  set_writer.write_set(source, work, wanted, strict)
  work.move_to(path)
  return path


@functools.cache
def _say_once(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _metadata_of(dataset: Any) -> prepared_set.Metadata | None:
  """Return the metadata of the prepared set that a data set's path names."""
  path = Path(dataset.path)
  is_named = dataset.name == "folder" and dataset.path
  if is_named and prepared_set.is_prepared(path):
    return prepared_set.read_metadata(path)
  return None


def _given_set(dataset: Any, wanted: prepared_set.Metadata) -> Path | None:
  metadata, path = _metadata_of(dataset), Path(dataset.path)
  if metadata is None:
    return None
  fields = ("range", "layout", "holdout", "group_by", "crop", "labels")
  in_dataset = (f"dataset.{name}" for name in fields)
  for field in ("resolution", "base_grid", "channels", *in_dataset):
    name = field.removeprefix("dataset.")
    theirs, ours = getattr(metadata, name), getattr(wanted, name)
    if ours not in ("", 0, "center", labels.NONE, theirs):
      raise ValueError(
        f"{field} is {ours!r}, but {path} is prepared with {theirs!r}; choose "
        "that, or prepare its source again"
      )
  return path


def _source_name(dataset: Any) -> str:
  if dataset.name == "folder":
    path = str(Path(dataset.path).resolve())
    return f"folder:{reading.printable_name(path)}"
  if dataset.name in _OPENERS:
    return dataset.name
  return f"tfds:{dataset.name}"


def _target(
  dataset: Any, wanted: prepared_set.Metadata, output: str | Path | None
) -> Path:
  given = str(output or dataset.data_dir)
  if (shown := reading.printable_name(given)) != given:
    raise ValueError(f"{shown}: choose a folder whose name is UTF-8")
  if output:
    return Path(output) if Path(output).name else Path(output).resolve()  # "."
  parts = [dataset.name]
  if dataset.name == "folder":
    # The hash keeps two folders of the same name apart.
    path_hash = hashlib.sha256(wanted.source.encode()).hexdigest()[:8]
    parts = [Path(dataset.path).resolve().stem, path_hash]
  if wanted.split:
    parts.append(wanted.split)
  if wanted.crop != "center":
    parts.append(wanted.crop)
  if wanted.labels != labels.NONE:
    parts.append(Path(wanted.labels).stem)
  if wanted.holdout:
    parts.append(f"holdout{wanted.holdout:g}")
  parts.append("x".join(map(str, wanted.shape)))
  name = re.sub(r"[^\w.+-]", "_", "-".join(parts))
  return Path(dataset.data_dir) / name
