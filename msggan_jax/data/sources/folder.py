"""Images of a folder or a zip file in natural order, or of an LSUN LMDB."""

import contextlib
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from msggan_jax.data import pixels, reading
from msggan_jax.data.sources import OpenSource, Source, labels

_MAX_FILE_BYTES = 2**29  # larger than any image within Pillow's pixel limit
_READ_BYTES = 4096  # zipfile's smallest chunk


def open_folder(dataset: Any, resolution: int) -> OpenSource:
  """Open the images of a folder and its sub-folders, or of a zip file.

  Images are in the natural order (2 before 10) of their relative paths.
  Hidden files are skipped. Links to folders are not followed; they count as
  unusable images, like unreadable folders.
  """
  del resolution
  if not dataset.path:
    raise ValueError("dataset.path is empty: set it to a folder or zip file")
  kind = getattr(dataset, "labels", labels.NONE)
  path = Path(dataset.path).expanduser()
  if not path.exists():
    raise ValueError(f"dataset.path: {path} does not exist")
  if path.is_dir():
    return contextlib.nullcontext(_folder_source(path, kind))
  if path.is_file() and zipfile.is_zipfile(path):
    return _open_zip(path, kind)
  raise ValueError(f"dataset.path: {path} is neither a folder nor a zip file")


def _natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
  # The pattern's group puts digits at every odd index, so any two keys compare
  # text with text and number with number.
  parts: list[str | tuple[int, str]] = re.split(r"([0-9]+)", name.lower())
  for i in range(1, len(parts), 2):
    # Orders like int(digits), which Python limits to 4300 digits.
    digits = parts[i].lstrip("0")
    parts[i] = len(digits), digits
  return parts, name


def _is_hidden(name: str) -> bool:
  # macOS zip files hold a "__MACOSX/._x.jpg" for every "x.jpg".
  return any(
    part == "__MACOSX" or (part.startswith(".") and part != "..")
    for part in PurePosixPath(name.replace("\\", "/")).parts
  )


def _is_wanted(name: str) -> bool:
  wanted = pixels.is_image_name(name) or _is_zip_name(name)
  return wanted and not _is_hidden(name)


def _list_unread(names: Iterable[str]) -> list[tuple[str, str]]:
  """Return the visible files that are no images, and why."""
  label_files = (labels.CSV, labels.JSON)
  return [
    (name, "not an image")
    for name in names
    if not (_is_wanted(name) or _is_hidden(name) or name in label_files)
  ]


def _is_zip_name(name: str) -> bool:
  return name.lower().endswith(".zip")


def _check_no_zip(name: str) -> None:
  if _is_zip_name(name):
    raise ValueError("a nested zip file is not opened: unpack it")


def _folder_source(root: Path, kind: str) -> Source:
  folders = set()  # not searched

  def relative(path: str) -> str:
    return Path(path).relative_to(root).as_posix()

  def note_unreadable(error: OSError) -> None:
    if error.filename in (None, str(root)):
      raise ValueError(f"dataset.path: cannot read {root}: {error.strerror}")
    folders.add(relative(error.filename))

  names = []
  for folder, subfolders, files in os.walk(root, onerror=note_unreadable):
    paths = [os.path.join(folder, name) for name in subfolders]
    folders.update(map(relative, filter(os.path.islink, paths)))
    names += [relative(os.path.join(folder, name)) for name in files]
  unread = _list_unread(names)
  names = list(filter(_is_wanted, names))
  names += [name for name in folders if not _is_hidden(name)]
  names.sort(key=_natural_key)
  found = labels.read(
    kind,
    [n for n in names if pixels.is_image_name(n) and n not in folders],
    lambda name: (root / name).read_bytes(),
  )

  def load(index):
    if names[index] in folders:
      if (root / names[index]).is_symlink():
        raise ValueError("a link to a folder, which is not followed")
      raise ValueError("a folder that cannot be read")
    _check_no_zip(names[index])
    path = root / names[index]
    if not path.is_file():  # a pipe would block, a broken link has no data
      raise ValueError("not a regular file")
    if path.stat().st_size > _MAX_FILE_BYTES:
      raise ValueError("the file is too large")
    image = pixels.open_image(path.read_bytes())
    return image, found.of.get(names[index], 0)

  return Source(
    names,
    load,
    found.class_names,
    labels=found.of,
    stamps=lambda: [_stamp(root / name) for name in names],
    unread=unread,
  )


def _stamp(path: Path) -> str:
  try:
    status = path.stat()
  except OSError:
    return ""
  return f"{status.st_size}/{status.st_mtime_ns}"


@contextlib.contextmanager
def _open_zip(path: Path, kind: str) -> Iterator[Source]:
  # Members are read into memory, never extracted. Names that point outside are
  # refused nevertheless: they indicate a tampered file.
  try:
    archive = zipfile.ZipFile(path)
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(
      f"dataset.path: {path} is a damaged zip file: {reading.reason_of(error)}"
    ) from error
  with archive:
    # Python's is_dir fails for an empty name.
    files = [
      member
      for member in archive.infolist()
      if member.filename and not member.is_dir()
    ]
    members = [member for member in files if _is_wanted(member.filename)]
    members.sort(key=lambda member: _natural_key(member.filename))
    names = [member.filename for member in members]
    found = labels.read(
      kind,
      list(filter(pixels.is_image_name, names)),
      lambda name: _read_member(archive, _check_member(archive.getinfo(name))),
    )

    def load(index):
      _check_member(members[index])
      _check_no_zip(names[index])
      # Of equal names, unpacking a zip file keeps the last.
      if names[index + 1 : index + 2] == [names[index]]:
        raise ValueError("a later file in the zip file has the same name")
      image = pixels.open_image(_read_member(archive, members[index]))
      return image, found.of.get(names[index], 0)

    yield Source(
      names,
      load,
      found.class_names,
      labels=found.of,
      stamps=lambda: [f"{m.file_size}:{m.CRC}" for m in members],
      unread=_list_unread(member.filename for member in files),
    )


def _check_member(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
  name = member.filename.replace("\\", "/")
  if name.startswith("/") or re.match("[A-Za-z]:", name):
    raise ValueError("absolute path in a zip file")
  if ".." in name.split("/"):
    raise ValueError("'..' in a path of a zip file")
  kind = stat.S_IFMT(member.external_attr >> 16)
  if kind == stat.S_IFLNK:
    raise ValueError("link in a zip file")
  if kind not in (0, stat.S_IFREG):
    raise ValueError("not a regular file in a zip file")
  if member.file_size > _MAX_FILE_BYTES:
    raise ValueError("the file is too large")
  return member


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
  # In chunks: otherwise zipfile decompresses everything before it truncates to
  # the declared size.
  with archive.open(member) as file:
    return b"".join(iter(lambda: file.read(_READ_BYTES), b""))


def open_lsun(dataset: Any, resolution: int) -> OpenSource:
  """Open the images of an LSUN category, in the order of its LMDB."""
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


@contextlib.contextmanager
def _open_lmdb(lmdb: Any, path: Path) -> Iterator[Source]:
  options = {"readonly": True, "lock": False, "readahead": False}
  with lmdb.open(str(path), create=False, **options) as environment:
    with environment.begin() as transaction:
      keys = list(transaction.cursor().iternext(keys=True, values=False))

    def load(index):
      # A transaction belongs to one thread; opening one takes microseconds.
      with environment.begin() as transaction:
        return pixels.open_image(transaction.get(keys[index])), 0

    names = [key.decode("utf-8", "backslashreplace") for key in keys]
    stamp = _stamp(path / "data.mdb")
    yield Source(names, load, stamps=lambda: [stamp] * len(names))
