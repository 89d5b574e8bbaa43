"""Prepare a source once: choose the set's folder, reuse a finished set."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL
from absl import logging

from msggan_jax.data import holdout, pixels, prepared_set, reading, set_writer
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
_MOST_CLASSES_SHOWN = 20
_UNBALANCED = 10  # times as many images as another class has
_WITHOUT_SPLIT = ("folder", "lsun_church")


def prepare(
  dataset: Any,
  resolution: int,
  channels: int,
  *,
  base_grid: str = grids.SQUARE,
  output: str | Path | None = None,
  strict: bool = False,
  num_classes: int = 0,
) -> Path:
  """Prepare a data set, or return the one that is already prepared.

  A killed preparation resumes, and its set is identical to an uninterrupted
  one's.

  Args:
    dataset: Configuration with the fields `name`, `path`, `split`, `crop` and
      `data_dir`; `labels` and `holdout` may be missing.
    resolution: Side of square images in pixels, a power of two from 4.
    output: By default a folder in `dataset.data_dir` named after the data set.
    strict: Whether an unusable image is an error; otherwise it is skipped and
      listed in `rejected.jsonl`.
    num_classes: The wanted number of classes; 0: any.

  Raises:
    ValueError: If the set cannot be made; no files remain then.
  """
  _check_shape(dataset, resolution, channels)
  size = grids.image_size(resolution, grids.parse(base_grid))
  wanted_labels, wanted_holdout = _parts(dataset)
  if dataset.name == "folder" and dataset.path:
    path = Path(dataset.path).expanduser()
    if prepared_set.is_prepared(path):
      if output:
        raise ValueError(f"{path} is prepared already; train on it as it is")
      _check_as_is(path, (*size, channels), wanted_holdout)
      logging.info("Using the prepared data set %s", path)
      return path
  wanted = {
    "source": _source_name(dataset),
    "split": "" if dataset.name in _WITHOUT_SPLIT else dataset.split,
    "crop": dataset.crop,
    "resolution": resolution,
    "channels": channels,
    "labels": wanted_labels,
    "holdout": wanted_holdout,
    "base_grid": base_grid,
  }
  target = Path(output or _default_output(dataset, (*size, channels)))
  target = target.expanduser()
  with _one_at_a_time(target):
    if prepared_set.is_prepared(target):
      _check_same(target, wanted, strict)
      set_writer.remove_partial(target)
      logging.info("Using the prepared data set %s", target)
      return target
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
      raise ValueError(f"{target} exists and is not a prepared data set")

    with _open_source(dataset, max(size)) as source:
      check_classes(num_classes, len(source.class_names))
      identity = _identity(source, wanted)
      with set_writer.open_partial(target, identity) as work:
        if not prepared_set.is_prepared(target):  # another machine was faster
          set_writer.write_set(source, work, wanted, strict)
        work.move_to(target)
  _check_same(target, wanted, strict)
  logging.info("Prepared the data set %s", target)
  if warning := imbalance(prepared_set.read_metadata(target)):
    logging.warning("%s: %s", target, warning)
  return target


def prepare_for(
  config: Any, dataset: Any = None, *, num_classes: int = 0
) -> Path:
  """Prepare a configuration's data set, or another one in the same shape."""
  return prepare(
    config.dataset if dataset is None else dataset,
    config.resolution,
    config.channels,
    base_grid=config.base_grid,
    num_classes=num_classes,
  )


def prepare_of_run(config: Any, data_dir: str) -> Path:
  """Prepare the data set of a run, or return the prepared one.

  The workdir may be somebody else's, so it does not choose where to write.

  Raises:
    ValueError: If the run keeps its set in another folder; as `prepare`.
  """
  dataset = config.dataset.copy_and_resolve_references()
  theirs = dataset.data_dir or data_dir  # a shared file names no folder
  if Path(theirs).expanduser() != Path(data_dir).expanduser():
    raise ValueError(
      f"this run keeps its data set in {theirs}; if it may be written to, "
      f"add --data_dir={theirs}"
    )
  dataset.data_dir = theirs
  return prepare_for(config, dataset)


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
  path = Path(dataset.path).expanduser()
  if dataset.name == "folder" and prepared_set.is_prepared(path):
    metadata = prepared_set.read_metadata(path)
    return metadata.num_images - metadata.num_holdout
  with _open_source(dataset, resolution) as source:
    num_images = len(source.names)
  return num_images - holdout.count(_parts(dataset)[1], num_images)


@contextlib.contextmanager
def _open_source(dataset: Any, resolution: int) -> Iterator[Source]:
  """Open a source that has images, of which the hold-out leaves some."""
  opener = _OPENERS.get(dataset.name, tfds_sets.open_tfds)
  with opener(dataset, resolution) as source:
    if not source.names:
      raise ValueError(f"{_source_name(dataset)} has no images")
    holdout.check(_parts(dataset)[1], len(source.names))
    yield source


@contextlib.contextmanager
def _one_at_a_time(target: Path) -> Iterator[None]:
  """Let one process of a machine prepare a set while the others wait.

  The lock is outside the data, where nothing must remain after an error. On
  machines that share a disk the first finished set is kept.
  """
  name = hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:16]
  path = Path(tempfile.gettempdir(), f"msggan_jax-{os.getuid()}-{name}.lock")
  with path.open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


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


def _check_as_is(
  path: Path, shape: tuple[int, int, int], wanted_holdout: float
) -> None:
  metadata = prepared_set.read_metadata(path)
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


def _check_same(target: Path, wanted: dict[str, Any], strict: bool) -> None:
  metadata = prepared_set.read_metadata(target)
  for field, value in wanted.items():
    if getattr(metadata, field) != value:
      raise ValueError(
        f"{target} was prepared with {field} {getattr(metadata, field)!r}, not "
        f"{value!r}; remove it or choose another place"
      )
  if strict and metadata.num_rejected:
    raise ValueError(
      f"{target} lacks {metadata.num_rejected} unusable images, listed in its "
      f"{prepared_set.REJECTED_FILE}"
    )


def _source_name(dataset: Any) -> str:
  if dataset.name == "folder":
    path = str(Path(dataset.path).expanduser().resolve())
    return f"folder:{reading.printable_name(path)}"
  if dataset.name in _OPENERS:
    return dataset.name
  return f"tfds:{dataset.name}"


def _default_output(dataset: Any, shape: tuple[int, int, int]) -> Path:
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
  kind, size = _parts(dataset)
  if kind != labels.NONE:
    parts.append(Path(kind).stem)
  if size:
    parts.append(f"holdout{size:g}")
  parts.append("x".join(map(str, shape)))
  return Path(dataset.data_dir, re.sub(r"[^\w.+-]", "_", "-".join(parts)))


def _identity(source: Source, wanted: dict[str, Any]) -> dict[str, Any]:
  """Return everything that must be equal for a preparation to resume."""
  state = hashlib.sha256(json.dumps(list(source.names)).encode())
  state.update(source.state().encode())
  return wanted | {
    "class_names": list(source.class_names),
    "images": len(source.names),
    "piece_images": set_writer.PIECE_IMAGES,
    "pieces": 2,  # their format
    "pillow": PIL.__version__,
    "state": state.hexdigest(),
  }


def summary(path: Path) -> str:
  """Describe a prepared set, in a few lines."""
  metadata = prepared_set.read_metadata(path)
  sizes = ", ".join(
    f"{size}: {count:,}" for size, count in metadata.source_sizes.items()
  )
  shape = "{}x{}x{}".format(*metadata.size, metadata.channels)
  lines = [
    f"source:         {metadata.source}",
    f"images:         {metadata.num_images:,} of {shape}",
    f"classes:        {_classes(metadata)}",
    f"shorter sides:  {sizes}",
    f"contact sheet:  {path / prepared_set.CONTACT_SHEET_FILE}",
  ]
  if metadata.num_rejected:
    where = path / prepared_set.REJECTED_FILE
    lines.append(f"rejected:       {metadata.num_rejected:,}, see {where}")
  if metadata.num_duplicates:
    where = path / prepared_set.DUPLICATES_FILE
    lines.append(
      f"duplicates:     {metadata.num_duplicates:,} images resemble others, "
      f"see {where}"
    )
  if metadata.holdout:
    lines.append(
      f"hold-out:       {metadata.num_holdout:,} images, never trained on"
    )
  if warning := imbalance(metadata):
    lines.append(f"warning:        {warning}")
  return "\n".join(lines)


def imbalance(metadata: prepared_set.Metadata) -> str:
  """Return a warning if some classes are much rarer than others, or ""."""
  counts = metadata.class_counts
  if not counts or max(counts) <= _UNBALANCED * min(counts):
    return ""
  rare, often = counts.index(min(counts)), counts.index(max(counts))
  return (
    f"classes are unbalanced: {metadata.class_names[rare]!r} has "
    f"{counts[rare]:,} image(s), {metadata.class_names[often]!r} has "
    f"{counts[often]:,}; rare classes are learned badly, add images or merge "
    "classes"
  )


def _classes(metadata: prepared_set.Metadata) -> str:
  if not metadata.class_counts:
    return str(metadata.num_classes or "none")
  pairs = list(zip(metadata.class_names, metadata.class_counts, strict=True))
  shown = ", ".join(f"{n} {c:,}" for n, c in pairs[:_MOST_CLASSES_SHOWN])
  more = ", ..." if len(pairs) > _MOST_CLASSES_SHOWN else ""
  return f"{len(pairs)} ({shown}{more})"
