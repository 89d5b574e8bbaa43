"""Where images come from: folders, the demo, TFDS, LSUN; their interface."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ml_collections import ConfigDict
from PIL import Image

from msggan_jax.data import fingerprint
from msggan_jax.data.arrays import Values
from msggan_jax.data.sources import labels
from msggan_jax.models.base_grid import SQUARE

NOT_AN_IMAGE = "not an image"  # the usual reason for a file not read


@dataclasses.dataclass(frozen=True)
class Source:
  """Images in a fixed order, before they are cropped and resized.

  Attributes:
    names: One name per image, fit for people and JSON.
    load: Index -> (image or values, label); called from several threads. It
      raises any exception for an unusable image. The label is 0 without labels.
    class_names: Names of the labels, empty without labels.
    label: Index -> label, where it is known before loading.
    stamp: Index -> text, such as "size/time", that changes with the image;
      another time alone need not mean another image.
    unread: Files that are not read: (name, reason).
    num_bytes: Index -> bytes of memory that `load` takes, 0 if few.
  """

  names: Sequence[str]
  load: Callable[[int], tuple[Image.Image | Values, int]]
  class_names: tuple[str, ...] = ()
  label: Callable[[int], int | None] = lambda index: None
  stamp: Callable[[int], str] = lambda index: ""  # it never changes
  unread: Sequence[tuple[str, str]] = ()
  num_bytes: Callable[[int], int] = lambda index: 0

  @functools.cached_property
  def fingerprint(self) -> fingerprint.Fingerprint:
    """The source as it was when this was asked for first."""
    images = {}
    for index, name in enumerate(self.names):
      content, _, time = self.stamp(index).partition("/")
      label = self.label(index)
      known = "" if label is None else self.class_names[label]
      images[name] = fingerprint.Image(content, time, known)
    return fingerprint.Fingerprint(self.class_names, images)


# A source may hold a file open (zip, LMDB), so openers return a context. They
# raise ValueError, in one sentence, if they cannot open what is asked for.
OpenSource: TypeAlias = contextlib.AbstractContextManager[Source]

# Their images change where they are; those of TFDS by another download only,
# the demo's never.
OF_PATHS = ("folder", "lsun_church")

# Fields of a data set that configurations of older runs lack.
LATER = {"labels": "none", "holdout": 0.0}
LATER |= {"range": "", "layout": "", "group_by": ""}


def stamp_of(path: Path) -> str:
  """Return the stamp of a file, see `Source.stamp`."""
  try:
    status = path.stat()
  except OSError:
    return ""
  return f"{status.st_size}/{status.st_mtime_ns}"


def config_of(
  source: str,
  resolution: int,
  channels: int = 3,
  base_grid: str = SQUARE,
  **fields: Any,
) -> ConfigDict:
  """Return a --source's configuration, with the fields that prepare it.

  It is "tfds:NAME", "lmdb:DIR", "demo:cats", "demo:earth", or the path of a
  folder or zip file. The other fields are those of `config.dataset`.
  """
  kind, colon, rest = source.partition(":")
  if not colon or kind not in ("tfds", "lmdb", "demo"):
    name, path = "folder", source
  elif kind == "lmdb":
    name, path = "lsun_church", rest
  else:
    name, path = rest, ""
  dataset = {"name": name, "path": path, "split": "train", "crop": "center"}
  return ConfigDict(
    {
      "dataset": dataset | LATER | {"data_dir": "."} | fields,
      "resolution": resolution,
      "channels": channels,
      "base_grid": base_grid,
    }
  )


def checked(dataset: Any) -> ConfigDict:
  """Return a data set's fields, with those that older configurations lack.

  ValueError of impossible ones that `config.checks` does not see.
  """
  dataset = ConfigDict(LATER | dataset.to_dict())
  if (dataset.range or dataset.layout) and dataset.name != "folder":
    raise ValueError(
      "dataset.range and dataset.layout are for folders and zips"
    )
  if dataset.layout and not dataset.range:
    raise ValueError(
      f"dataset.layout is {dataset.layout!r}, which only values have: give "
      "their range (--range=LOW:HIGH, dataset.range)"
    )
  kind = dataset.labels
  owner = "cats" if kind == labels.BODIES else "folder"
  if kind != labels.NONE and dataset.name != owner:
    owners = "the cats have" if owner == "cats" else "a folder or zip has"
    raise ValueError(
      f"dataset.labels is {kind}, but only {owners} such labels; choose none"
    )
  if dataset.group_by and not dataset.holdout:
    raise ValueError(
      "dataset.group_by chooses held-out images: give dataset.holdout, too"
    )
  try:
    re.compile(dataset.group_by)
  except re.error as error:
    raise ValueError(
      f"dataset.group_by: {dataset.group_by!r} is no regular expression: "
      f"{error}"
    ) from error
  return dataset
