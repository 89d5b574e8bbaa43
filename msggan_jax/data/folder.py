"""Images of a folder, a zip file, or LSUN's LMDB, in a fixed order."""

import contextlib
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from msggan_jax.data import pixels
from msggan_jax.data.sources import OpenSource, Source

_MAX_FILE_BYTES = 2**29  # more than any image within Pillow's limit of pixels


def open_folder(dataset: Any, resolution: int) -> OpenSource:
  """Open the images of a folder and its sub-folders, or of a zip file.

  The order is the natural one (2 before 10) of the relative paths. Sub-folders
  are not labels, and hidden files are left alone.

  Args:
    dataset: Its `path` is the folder or the zip file.
    resolution: Not needed here.

  Returns:
    A context that gives the source.

  Raises:
    ValueError: If the path is empty, missing, or something else.
  """
  del resolution
  if not dataset.path:
    raise ValueError("dataset.path is empty: set it to a folder or zip file")
  path = Path(dataset.path).expanduser()
  if not path.exists():
    raise ValueError(f"dataset.path: {path} does not exist")
  if path.is_dir():
    return contextlib.nullcontext(_folder_source(path))
  if zipfile.is_zipfile(path):
    return _open_zip(path)
  raise ValueError(f"dataset.path: {path} is neither a folder nor a zip file")


def open_lsun(dataset: Any, resolution: int) -> OpenSource:
  """Open the LMDB of an LSUN category.

  Args:
    dataset: Its `path` is the directory with LSUN's `data.mdb`.
    resolution: Not needed here.

  Returns:
    A context that gives the source.

  Raises:
    ValueError: If the LMDB or the package that reads it is missing.
  """
  del resolution
  path = Path(dataset.path).expanduser()
  if not dataset.path or not (path / "data.mdb").is_file():
    raise ValueError(
      f"dataset.path: no LSUN database in {str(dataset.path)!r}; download "
      "church_outdoor_train_lmdb.zip from https://www.yf.io/p/lsun, unzip it, "
      "and set dataset.path to the directory church_outdoor_train_lmdb"
    )
  try:
    import lmdb
  except ImportError as error:
    raise ValueError(
      "reading LSUN needs the package lmdb: pip install 'msggan_jax[lsun]'"
    ) from error
  return _open_lmdb(lmdb, path)


def _natural_key(name: str) -> tuple[list[str | int], str]:
  # The pattern's group puts the digits at every second place, so that the keys
  # of any two names compare text with text and number with number.
  parts: list[str | int] = re.split(r"([0-9]+)", name.lower())
  parts[1::2] = [int(digits) for digits in parts[1::2]]
  return parts, name


def _is_wanted(name: str) -> bool:
  # macOS zip files hold a "__MACOSX/._x.jpg" for every "x.jpg".
  hidden = any(
    part == "__MACOSX" or (part.startswith(".") and part != "..")
    for part in PurePosixPath(name).parts
  )
  return not hidden and pixels.is_image_name(name)


def _folder_source(root: Path) -> Source:
  names = [
    Path(folder, file).relative_to(root).as_posix()
    for folder, _, files in os.walk(root)
    for file in files
  ]
  names = sorted(filter(_is_wanted, names), key=_natural_key)

  def load(index):
    path = root / names[index]
    if not path.is_file():  # a pipe would block, a broken link has no data
      raise ValueError("not a regular file")
    if path.stat().st_size > _MAX_FILE_BYTES:
      raise ValueError("the file is too large")
    return pixels.open_image(path.read_bytes()), 0

  return Source(names, load)


@contextlib.contextmanager
def _open_zip(path: Path) -> Iterator[Source]:
  # Members are read into memory and nothing is ever extracted; names that point
  # outside are refused all the same, as signs of a tampered file.
  with zipfile.ZipFile(path) as archive:
    members = [
      member
      for member in archive.infolist()
      if not member.is_dir() and _is_wanted(member.filename)
    ]
    members.sort(key=lambda member: _natural_key(member.filename))

    def load(index):
      member = members[index]
      _check_member(member)
      return pixels.open_image(archive.read(member)), 0

    yield Source([member.filename for member in members], load)


def _check_member(member: zipfile.ZipInfo) -> None:
  name = member.filename.replace("\\", "/")
  if name.startswith("/") or re.match("[A-Za-z]:", name):
    raise ValueError("absolute path in a zip file")
  if ".." in name.split("/"):
    raise ValueError("'..' in a path of a zip file")
  if stat.S_ISLNK(member.external_attr >> 16):
    raise ValueError("link in a zip file")
  if member.file_size > _MAX_FILE_BYTES:
    raise ValueError("the file is too large")


@contextlib.contextmanager
def _open_lmdb(lmdb: Any, path: Path) -> Iterator[Source]:
  options = {"readonly": True, "lock": False, "readahead": False}
  with lmdb.open(str(path), create=False, **options) as environment:
    with environment.begin() as transaction:
      keys = list(transaction.cursor().iternext(keys=True, values=False))

    def load(index):
      # A transaction belongs to one thread; opening one costs microseconds.
      with environment.begin() as transaction:
        return pixels.open_image(transaction.get(keys[index])), 0

    names = [key.decode("utf-8", "backslashreplace") for key in keys]
    yield Source(names, load)
