"""Images of a folder or a zip file, in natural order."""

import collections
import contextlib
import functools
import itertools
import mimetypes
import os
import re
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from PIL import Image

from msggan_jax.data import (
  arrays,
  image_files,
  pixels,
  prepared_set,
  reading,
)
from msggan_jax.data.sources import (
  NOT_AN_IMAGE,
  OpenSource,
  Source,
  labels,
  stamp_of,
)

_MAX_FILE_BYTES = 2**29  # larger than any image within Pillow's pixel limit
_MOST_NOTES = 10

# Types of files that are no images, so that nobody has to open them.
_OTHER_TYPES = re.compile(r"(audio|text|video)/|application/(json|xml|pdf)")
# Files that tell what one of our commands has written into their folder.
_OURS = {
  "a prepared set": prepared_set.FILES,
  "a run": {"config.json", "reals.png"},
}
_SAMPLE = re.compile(r"seed\d{4,}\.(png|npy|tif)")
_VIDEO = re.compile(r"(interpolate|training)\.webp")


class _Files(NamedTuple):
  names: list[str]  # relative paths
  read: Callable[[str, int], bytes]  # the first bytes of a file; -1: all
  num_bytes: Callable[[str], int]
  stamp: Callable[[str], str]  # see `Source.stamp`
  unusable: Iterable[str] = ()  # names that are listed with what `read` raises

  def head(self, name: str) -> bytes:
    """Return the bytes by which a file is known."""
    return reading.read(lambda: self.read(name, image_files.HEAD_BYTES), name)

  def whole(self, name: str) -> bytes:
    """Return all bytes of a file."""
    if self.num_bytes(name) > _MAX_FILE_BYTES:
      raise ValueError("the file is too large")
    return self.read(name, -1)


def open_folder(dataset: Any, resolution: int) -> OpenSource:
  """Open the images of a folder and its sub-folders, or of a zip file.

  Images are in the natural order (2 before 10) of their relative paths; a file
  without the ending of an image is one if its first bytes are. Links to folders
  are not followed; they count as unusable images, like unreadable folders.
  """
  del resolution
  if not dataset.path:
    raise ValueError("dataset.path is empty: set it to a folder or zip file")
  arrays.check_layout(dataset.layout)
  kind, layout = dataset.labels, dataset.layout if dataset.range else None
  path = Path(dataset.path)
  if not path.exists():
    raise ValueError(f"dataset.path: {path} does not exist")
  if path.is_dir():
    return contextlib.nullcontext(_source(_folder_files(path), kind, layout))
  if path.is_file() and zipfile.is_zipfile(path):
    return _open_zip(path, kind, layout)
  raise ValueError(f"dataset.path: {path} is neither a folder nor a zip file")


def _source(files: _Files, kind: str, layout: str | None) -> Source:
  """Return the source of some files; layout: of arrays, None: pictures."""
  images, unread = _sort_out(files, are_arrays=layout is not None)
  found = labels.read(kind, images, files.whole)
  names = sorted([*images, *files.unusable], key=_natural_key)
  read = functools.partial(_read, files, layout is not None)
  # A file's name, and the image's place in a file of several.
  entries: list[tuple[str, int | None]] = [(name, None) for name in names]
  if layout and arrays.has_several(layout):
    # Threads ask for neighbors in one file, which is read once.
    lock, cached = threading.Lock(), functools.lru_cache(2)(read)
    counts = (_count(cached, name, layout) for name in names)
    entries = [
      (name, part)
      for name, count in zip(names, counts, strict=True)
      for part in range(count)
    ]

    def read(name: str) -> Any:
      with lock:
        return cached(name)

  def load(index: int) -> tuple[Image.Image | arrays.Values, int]:
    name, part = entries[index]
    image = read(name)
    if layout is not None:
      image = arrays.image(image, layout, part or 0)
    return image, found.of.get(name, 0)

  printable = reading.printable_name
  return Source(
    [
      printable(name) + ("" if part is None else f"[{part}]")
      for name, part in entries
    ],
    load,
    found.class_names,
    label=lambda index: found.of.get(entries[index][0]),
    stamp=lambda index: files.stamp(entries[index][0]),
    unread=[(printable(name), reason) for name, reason in unread],
    num_bytes=lambda index: files.num_bytes(entries[index][0]),
  )


def _read(files: _Files, are_arrays: bool, name: str) -> Any:
  """Return a file's image or its values."""
  data = files.whole(name)
  if are_arrays:
    return arrays.read(data, name)
  image = image_files.open_image(data)
  if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
    logging.log_first_n(
      logging.WARNING,
      "%s: page 1 of %d is used",
      _MOST_NOTES,
      reading.printable_name(name),
      pages,
    )
  return image


def _count(read: Callable[[str], Any], name: str, layout: str) -> int:
  """Return the number of images in a file of several, 1 if it has none."""
  try:
    return len(arrays.images(read(name).array, layout))
  except pixels.Question as error:
    raise ValueError(f"{name}: {error}") from error
  except reading.DiskError:
    raise
  except Exception:  # `load` fails as well, and its reason is listed
    return 1


def _natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
  # The pattern's group puts digits at every odd index, so any two keys compare
  # text with text and number with number.
  # macOS writes "e\u0301" where other systems write "\u00e9".
  text = unicodedata.normalize("NFC", name).lower()
  parts: list[str | tuple[int, str]] = re.split(r"([0-9]+)", text)
  for i in range(1, len(parts), 2):
    # Orders like int(digits), which Python limits to 4300 digits.
    digits = parts[i].lstrip("0")
    parts[i] = len(digits), digits
  return parts, name


def _split(name: str) -> tuple[str, str]:
  folder, _, file = name.replace("\\", "/").rpartition("/")
  return folder, file


def _parts(name: str) -> list[str]:
  """Return the folders that a file is in, the outermost first, and itself."""
  parts = name.replace("\\", "/").split("/")
  return [*itertools.accumulate(parts, "{}/{}".format)]


def _is_hidden(path: str) -> bool:
  name = path.rpartition("/")[2]
  # macOS zip files hold a "__MACOSX/._x.jpg" for every "x.jpg".
  return name == "__MACOSX" or (name[:1] == "." and name not in (".", ".."))


def _sort_out(
  files: _Files, *, are_arrays: bool
) -> tuple[list[str], list[tuple[str, str]]]:
  """Return the images among files in natural order, and why others are none."""
  contents = collections.defaultdict(set)  # of each folder
  for name in files.names:
    folder, file = _split(name)
    contents[folder].add(file)
  ours = {
    folder: f"{what}, no images of this source"
    for folder, names in contents.items()
    for what, signs in _OURS.items()
    if folder and signs <= names
  }
  images, unread = [], {}
  for name in files.names:
    if name in (labels.CSV, labels.JSON):
      continue
    for part in _parts(name):
      if reason := "hidden" if _is_hidden(part) else ours.get(part):
        break
    else:
      part, reason = name, _why_no_image(name, files, are_arrays)
    if reason:
      unread[part] = reason
    else:
      images.append(name)
  samples = {
    folder
    for folder, file in map(_split, images)
    if folder and _SAMPLE.fullmatch(file)
  }
  apart = {
    name: next((part for part in _parts(name) if part in samples), "")
    for name in (images if samples else ())
  }
  others = [name for name, folder in apart.items() if not folder]
  if all(_is_sheet(name, files) for name in others):
    # A source of nothing but samples keeps them.
    images = [name for name, folder in apart.items() if folder] or images
    unread |= dict.fromkeys(others, "a sheet or video of samples")
  else:
    images = others
    reason = "samples of a generator, no images of this source"
    unread |= {folder: reason for folder in apart.values() if folder}
  images.sort(key=_natural_key)
  return images, sorted(unread.items(), key=lambda item: _natural_key(item[0]))


def _is_sheet(name: str, files: _Files) -> bool:
  if _VIDEO.fullmatch(name.rpartition("/")[2]):
    return True
  try:
    return image_files.mark_of(files.head(name)) == pixels.SHEET
  except reading.DiskError:
    raise
  except Exception:  # it is listed when it is loaded
    return False


def _why_no_image(name: str, files: _Files, are_arrays: bool) -> str:
  if image_files.is_image_name(name):
    return ""
  if are_arrays and arrays.is_array_name(name):
    return ""
  if not _OTHER_TYPES.match(mimetypes.guess_type(name)[0] or ""):
    try:
      head = files.head(name)
      if are_arrays and arrays.is_array(head):
        return ""
      if reason := image_files.why_unread(head):
        return reason
      if image_files.is_image(head):
        return ""
    except reading.DiskError:
      raise
    except Exception as error:  # of files, zipfile
      return reading.reason_of(error)
  return NOT_AN_IMAGE


def _folder_files(root: Path) -> _Files:
  files, unusable = [], {}

  def relative(*parts: str) -> str:  # as text: there may be millions
    return os.path.join(*parts).removeprefix(os.path.join(root, ""))

  def note_unreadable(error: OSError) -> None:
    if error.filename in (None, str(root)):
      raise ValueError(f"dataset.path: cannot read {root}: {error.strerror}")
    unusable[relative(error.filename)] = "a folder that cannot be read"

  for folder, subfolders, names in os.walk(root, onerror=note_unreadable):
    hidden = list(filter(_is_hidden, subfolders))
    subfolders[:] = [name for name in subfolders if name not in hidden]
    links = [x for x in subfolders if os.path.islink(os.path.join(folder, x))]
    why = "a link to a folder, which is not followed"
    unusable |= {relative(folder, name): why for name in links}
    files += [relative(folder, name) for name in names + hidden]

  def read(name: str, size: int) -> bytes:
    if name in unusable:
      raise ValueError(unusable[name])
    path = root / name
    if not path.is_file():  # a pipe would block, a broken link has no data
      raise ValueError("not a regular file")
    if size < 0:
      return path.read_bytes()
    with path.open("rb") as file:
      return file.read(size)

  def num_bytes(name: str) -> int:
    with contextlib.suppress(OSError):
      return (root / name).stat().st_size
    return 0

  return _Files(files, read, num_bytes, lambda x: stamp_of(root / x), unusable)


@contextlib.contextmanager
def _open_zip(path: Path, kind: str, layout: str | None) -> Iterator[Source]:
  # Members are read into memory, never extracted: names may point anywhere.
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(
      f"dataset.path: {path} is a damaged zip file: {reading.reason_of(error)}"
    ) from error
  with archive:
    # In this order: Python's is_dir fails for an empty name.
    members = [
      x for x in archive.infolist() if not x.filename or not x.is_dir()
    ]
    # Of equal names the last, as unpacking does.
    last = {member.filename: member for member in members}

    def read(name: str, size: int) -> bytes:
      with archive.open(last[name]) as file:
        # Without a size, zipfile decompresses more than is declared.
        return file.read(last[name].file_size if size < 0 else size)

    files = _Files(
      [*last],
      read,
      num_bytes=lambda name: last[name].file_size,
      stamp=lambda name: f"{last[name].file_size}:{last[name].CRC}",
    )
    yield _source(files, kind, layout)
