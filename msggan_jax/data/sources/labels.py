"""Labels of a folder's images: sub-folders, labels.csv or dataset.json.

labels.csv starts with the line `file,label`; a label is a name, or a number
from 0. dataset.json is StyleGAN's: {"labels": [["a/1.png", 0], ...]}. Files are
relative paths with slashes.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from msggan_jax.data import reading
from msggan_jax.runtime.errors import counted

NONE = "none"
FOLDERS = "folders"
CSV = "labels.csv"
JSON = "dataset.json"
BODIES = "bodies"  # of the demo's cats

_HEADER = ["file", "label"]
_MOST_CLASSES = 2**16


class Labels(NamedTuple):
  """The classes of a source and the label of each image, by name."""

  class_names: tuple[str, ...] = ()
  of: Mapping[str, int] = {}


def read(
  kind: str, images: Sequence[str], read_file: Callable[[str], bytes]
) -> Labels:
  """Return the labels of images, relative paths in natural order."""
  if kind == NONE:
    return Labels()
  if kind == FOLDERS:
    return _of_folders(images)
  try:
    data = read_file(kind)
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(
      f"dataset.labels is {kind}, but the source has no readable file {kind} "
      "at its top; add it, or choose folders or none"
    ) from error
  rows = _csv_rows(data) if kind == CSV else _json_rows(data)
  return _of_rows(kind, rows, images)


def _of_folders(images: Sequence[str]) -> Labels:
  """Take the first folder level that has several folders as the classes."""
  paths = [PurePosixPath(_comparable(name)).parts for name in images]
  level = 0
  while len({path[: level + 1] for path in paths}) == 1 and all(
    len(path) > level + 1 for path in paths
  ):
    level += 1
  named = list(zip(images, paths, strict=True))
  if outside := [name for name, path in named if len(path) < level + 2]:
    raise ValueError(
      f"dataset.labels is folders, but {_some(outside)} in no folder of a "
      "class; move every image into one, or out of the source"
    )
  classes = tuple(dict.fromkeys(path[level] for path in paths))
  numbers = {name: number for number, name in enumerate(classes)}
  return Labels(
    tuple(map(reading.printable_name, classes)),
    {name: numbers[path[level]] for name, path in named},
  )


def _csv_rows(data: bytes) -> list[tuple[str, str]]:
  try:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True))
  except (ValueError, csv.Error) as error:
    raise ValueError(
      f"{CSV} is unreadable: {reading.reason_of(error)}"
    ) from error
  rows = [(i, row) for i, row in enumerate(rows, 1) if row]
  if not rows or [cell.strip() for cell in rows[0][1]] != _HEADER:
    raise ValueError(f"{CSV} must start with the line {','.join(_HEADER)}")
  for number, row in rows[1:]:
    if len(row) != 2 or not row[1].strip():
      raise ValueError(f"{CSV}: row {number} is not a file and its label")
  return [(row[0], _composed(row[1].strip())) for _, row in rows[1:]]


def _json_rows(data: bytes) -> list[tuple[str, int]]:
  try:
    content = json.loads(data)
    rows = content["labels"]
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(
      f"{JSON} is unreadable: {reading.reason_of(error)}; it must hold "
      '{"labels": [["file", 0], ...]}'
    ) from error
  for row in rows if isinstance(rows, list) else [rows]:
    if not (
      isinstance(row, list)
      and len(row) == 2
      and isinstance(row[0], str)
      and type(row[1]) is int
    ):
      raise ValueError(
        f"{JSON}: {repr(row)[:80]} is not a label; write a file and its class, "
        'such as ["a.png", 0]'
      )
  return [(name, label) for name, label in rows]


def _of_rows(
  kind: str, rows: Sequence[tuple[str, str | int]], images: Sequence[str]
) -> Labels:
  by_name: dict[str, str | int] = {}
  for name, label in rows:
    name = _comparable(name.strip())
    if by_name.setdefault(name, label) != label:
      raise ValueError(f"{kind}: {name!r} has two labels")
  paths = {name: _comparable(name) for name in images}
  there = dict.fromkeys(paths.values())
  if unknown := [name for name in by_name if name not in there]:
    raise ValueError(
      f"{kind} names {counted(len(unknown), 'file')} without an image in the "
      f"source, such as {unknown[0]!r}"
    )
  if missing := [path for path in there if path not in by_name]:
    raise ValueError(f"{kind}: {_some(missing)} without a label")
  names, numbers = _classes(kind, set(by_name.values()))
  return Labels(names, {n: numbers[by_name[path]] for n, path in paths.items()})


def _comparable(name: str) -> str:
  return _composed(PurePosixPath(name.replace("\\", "/")).as_posix())


def _composed(text: str) -> str:
  """Return text as all systems write it: macOS decomposes accents."""
  return unicodedata.normalize("NFC", text)


def _classes(
  kind: str, labels: set[str | int]
) -> tuple[tuple[str, ...], dict[str | int, int]]:
  if not all(re.fullmatch(r"-?\d+", str(label)) for label in labels):
    names = tuple(sorted(map(str, labels)))
    return names, {name: number for number, name in enumerate(names)}
  numbers = {label: int(label) for label in labels}
  low, high = min(numbers.values()), max(numbers.values())
  if low < 0 or high >= _MOST_CLASSES:
    raise ValueError(
      f"{kind}: labels range from {low} to {high}; number the classes from 0, "
      f"at most {_MOST_CLASSES - 1}"
    )
  return tuple(map(str, range(high + 1))), numbers


def _some(names: Sequence[str]) -> str:
  name = reading.one_line(reading.printable_name(names[0]))
  if len(names) == 1:
    return f"the image {name} is"
  return f"{len(names):,} images, such as {name}, are"
