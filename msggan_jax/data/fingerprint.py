"""The source of a prepared set: its images and classes, to notice changes."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msggan_jax.data import reading
from msggan_jax.runtime.errors import counted

# Of the preparation of pictures, and of values; raise one when the images of
# such a source become other pixels.
_VERSION, _VERSION_OF_VALUES = 1, 2

_FILE = "source.json"


def version(wanted_range: str) -> int:
  """Return the preparation's version, of pictures if the range is ""."""
  return _VERSION_OF_VALUES if wanted_range else _VERSION


class Image(NamedTuple):
  """An image of a source, before it is read."""

  content: str  # its size, or more
  time: str  # when it was written; a copy may have another
  label: str  # the name of its class, or ""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
  """The images of a source by name, and its classes, both in order."""

  class_names: tuple[str, ...]
  images: dict[str, Image]

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of everything."""
    return hashlib.sha256(self._text().encode()).hexdigest()

  def write(self, path: Path) -> None:
    """Write it into the folder of a set."""
    (path / _FILE).write_text(self._text() + "\n")

  def _text(self) -> str:
    rows = [[name, *image] for name, image in self.images.items()]
    return json.dumps({"class_names": self.class_names, "images": rows})


def read(path: Path) -> Fingerprint:
  """Read the fingerprint in the folder of a set; empty if it has none."""
  try:
    content = json.loads((path / _FILE).read_bytes())
    images = {name: Image(*image) for name, *image in content["images"]}
    return Fingerprint(tuple(content["class_names"]), images)
  except (OSError, ValueError, TypeError, KeyError):
    return Fingerprint((), {})


def differences(there: Fingerprint, here: Fingerprint) -> list[str]:
  """Return the changes between two fingerprints, except times, in words."""
  both = [
    (name, there.images[name], image)
    for name, image in here.images.items()
    if name in there.images
  ]
  kinds = [
    ("added", [n for n in here.images if n not in there.images]),
    ("removed", [n for n in there.images if n not in here.images]),
    ("changed", [n for n, a, b in both if a.content != b.content]),
    ("with another label", [n for n, a, b in both if a.label != b.label]),
  ]
  changes = [_count(names, what) for what, names in kinds if names]
  return changes + of_classes(there.class_names, here.class_names)


def of_classes(there: Sequence[str], here: Sequence[str]) -> list[str]:
  """Return how the names of the classes have changed, if they have."""
  was, now = (reading.listed(names) or "none" for names in (there, here))
  return [f"the classes were {was}, are {now}"] if there != here else []


def newer(there: Fingerprint, here: Fingerprint) -> str:
  """Return which images of equal names were written at another time."""
  names = [
    name
    for name, image in here.images.items()
    if there.images.get(name, image).time != image.time
  ]
  return _count(names, "written at another time") if names else ""


def _count(names: list[str], what: str) -> str:
  images = counted(len(names), "image")
  return f"{images} {what}, such as {reading.one_line(names[0])}"
