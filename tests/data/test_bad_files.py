"""Files that cannot be used are listed with a reason; a failing disk is not."""

import contextlib
import errno
import io
import json
import os
import random
import socket
import stat
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import reading
from msggan_jax.data.sources import config_of, folder


def prepare(source, output, **options):
  path = data.prepare(config_of(str(source), 16), output=output, **options)
  return data.open_prepared(path)


def rejected(images):
  """Return name to reason; each line is a JSON object."""
  lines = (images.path / "rejected.jsonl").read_bytes().split(b"\n")
  assert lines.pop() == b""
  rows = [json.loads(line.decode("ascii")) for line in lines]
  assert len({row["name"] for row in rows}) == len(rows)
  assert len(rows) == images.metadata.num_rejected
  return {row["name"]: row["reason"] for row in rows}


def encoded(kind, image=None, **options):
  if image is None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image = Image.fromarray(noise)
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def flipped(content, place):
  content = bytearray(content)
  content[place] ^= 0xFF
  return bytes(content)


GOOD_PNG = encoded("PNG")
IDAT = GOOD_PNG.index(b"IDAT")


def png(width, height):
  """Return a PNG with a header of our choice."""
  header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  checksum = struct.pack(">I", zlib.crc32(header))
  return GOOD_PNG[:12] + header + checksum + GOOD_PNG[33:]


# File name to contents and a part of the reason.
BAD_CONTENTS = {
  "empty.png": (b"", "empty file"),
  "random.jpg": (random.Random(0).randbytes(5000), "cannot identify"),
  "text.jpg": (b"<html>404 not found</html>", "cannot identify"),
  "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot identify"),
  "truncated.png": (GOOD_PNG[: len(GOOD_PNG) // 2], "truncated"),
  "truncated.jpg": (encoded("JPEG")[:700], "truncated"),
  "flipped data.png": (flipped(GOOD_PNG, IDAT + 1000), ""),
  "width 0.png": (png(0, 40), ""),
  "bomb.png": (png(20_000, 20_000), "too large: 20000x20000 pixels take 1.5"),
  "just too large.png": (png(20_000, 13_422), "memory, more than 1"),
  "small.png": (encoded("PNG", Image.new("L", (15, 400))), "too small: 15x400"),
  "float.tiff": (encoded("TIFF", Image.new("F", (40, 40))), "floating-point"),
  "32 bits.tiff": (
    encoded("TIFF", Image.fromarray(np.full((40, 40), 70_000, np.int32))),
    "32-bit",
  ),
  "line\nbreak\t\x1b[31m.png": (b"", "empty"),
  "\u2028 \U0001f600.png": (b"", "empty"),
  "9" * 240 + ".png": (b"", "empty"),
}


def make_bad_folder(path, outside):
  """Fill a folder; return name to a part of the expected reason."""
  path.mkdir()
  outside.mkdir()
  (outside / "secret.png").write_bytes(GOOD_PNG)
  reasons = {}
  for name, (content, reason) in BAD_CONTENTS.items():
    (path / name).write_bytes(content)
    reasons[name] = reason
  links = {
    "broken.png": (outside / "nothing", "not a regular file"),
    "loop.png": ("loop.png", "not a regular file"),
    "zero.png": ("/dev/zero", "not a regular file"),
    "round": (path, "a link to a folder"),
    "outside.png": (outside, "a link to a folder"),
  }
  for name, (target, reason) in links.items():
    os.symlink(target, path / name)
    reasons[name] = reason
  os.mkfifo(path / "pipe.png")
  os.mkfifo(path / "no image")
  reasons["pipe.png"] = "not a regular file"
  return reasons


def test_a_folder_of_bad_files(tmp_path, monkeypatch):
  path = tmp_path / "photos"
  reasons = make_bad_folder(path, tmp_path / "outside")
  # Some file systems refuse names that Python has only as surrogates.
  with contextlib.suppress(OSError):
    with open(os.fsencode(path) + b"/\xff\xfe.png", "wb"):
      reasons[r"\xff\xfe.png"] = "empty"
  monkeypatch.chdir(path)
  with socket.socket(socket.AF_UNIX) as server:
    server.bind("socket.png")
    reasons["socket.png"] = "not a regular file"
    (path / "sparse.png").touch()
    os.truncate("sparse.png", 2**40)
    reasons["sparse.png"] = "too large"
    good = {"good.png", "x.png/good.png", "z/good.png"}  # a folder named x.png
    for name in good:
      (path / name).parent.mkdir(exist_ok=True)
      (path / name).write_bytes(GOOD_PNG)
    images = prepare(path, tmp_path / "set")
  assert len(images) == len(good)
  unread = json.loads((images.path / "unread.jsonl").read_text())
  assert unread == {"name": "no image", "reason": "not a regular file"}
  found = rejected(images)
  assert found.keys() == reasons.keys()
  for name, reason in reasons.items():
    assert reason in found[name], name
    assert found[name].isprintable() and 4 < len(found[name]) <= 200
    assert str(tmp_path) not in found[name]
  again = prepare(path, tmp_path / "again")
  for name in ("rejected.jsonl", "metadata.json"):  # the same words every time
    assert (again.path / name).read_bytes() == (images.path / name).read_bytes()
  with pytest.raises(ValueError, match="unusable images in .*: 1 ") as error:
    prepare(path, tmp_path / "strict", strict=True)
  assert len(str(error.value).splitlines()) == 1
  assert not list(tmp_path.glob("*strict*"))
  with pytest.raises(ValueError, match=f"lacks {len(reasons)} unusable images"):
    prepare(path, tmp_path / "set", strict=True)


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
  for name in ("good", "secret"):
    (tmp_path / "photos" / name).mkdir(parents=True)
    (tmp_path / "photos" / name / "1.png").write_bytes(GOOD_PNG)
  (tmp_path / "photos" / "2.png").write_bytes(GOOD_PNG)

  def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))

  # Tests may run as root, to whom nothing is denied.
  for owner, name, end in (
    (os, "scandir", "secret"),
    (type(tmp_path), "read_bytes", "2.png"),
  ):
    allowed = getattr(owner, name)
    monkeypatch.setattr(
      owner,
      name,
      lambda path, end=end, allowed=allowed: (
        (refuse if str(path).endswith(end) else allowed)(path)
      ),
    )
  assert rejected(prepare(tmp_path / "photos", tmp_path / "set")) == {
    "secret": "a folder that cannot be read",
    "2.png": "Permission denied",
  }
  with pytest.raises(ValueError, match="cannot read .*secret: Permission"):
    prepare(tmp_path / "photos" / "secret", tmp_path / "other")


def write_member(archive, name, content, mode=0):
  info = zipfile.ZipInfo(name)
  info.external_attr = mode << 16
  info.compress_type = zipfile.ZIP_DEFLATED
  archive.writestr(info, content)


def patch_entry(content, name, offset, form, value):
  """Change a number in the central directory's entry of a member."""
  content = bytearray(content)
  struct.pack_into(form, content, content.rindex(name) - 46 + offset, value)
  return bytes(content)


def test_a_zip_of_bad_files(tmp_path):
  outside = ["../up.png", "..\\up.png", "/abs.png", "C:/dos.png"]
  reasons = {}
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    write_member(archive, "good.png", GOOD_PNG)
    write_member(archive, "__MACOSX/a/._good.png", b"resource fork")
    for name in outside:  # read, and never written
      write_member(archive, name, GOOD_PNG)
    for name, kind in (("link.png", stat.S_IFLNK), ("dev.png", stat.S_IFCHR)):
      write_member(archive, name, "/etc/passwd", kind | 0o777)
      reasons[name] = "cannot identify"
    for name in ("crc", "locked", "method", "bomb", "other"):
      write_member(archive, f"{name}.png", GOOD_PNG)
    write_member(archive, "7" * 9000 + ".png", b"")  # a number of many digits
    with pytest.warns(UserWarning, match="Duplicate name"):
      write_member(archive, "twice.png", b"")
      write_member(archive, "twice.png", GOOD_PNG)
    write_member(archive, "hollow.png", bytes(10**6))
  content = file.getvalue()
  for name, offset, form, value, reason in (
    ("crc.png", 16, "<I", 0, "CRC"),
    ("locked.png", 8, "<H", 1, "encrypted"),
    ("method.png", 10, "<H", 99, "compression"),
    ("bomb.png", 24, "<I", 2**32 - 2, "too large"),
    ("hollow.png", 24, "<I", 100, "CRC"),  # it inflates to more
  ):
    content = patch_entry(content, name.encode(), offset, form, value)
    reasons[name] = reason
  content = content.replace(b"other.png", b"Other.png", 1)  # of its own header
  reasons |= {
    "other.png": "differ",
    "7" * 9000 + ".png": "empty",
  }
  (tmp_path / "photos.zip").write_bytes(content)
  before = {*tmp_path.parent.rglob("*")}
  images = prepare(tmp_path / "photos.zip", tmp_path / "set")
  assert len(images) == 2 + len(outside)  # good.png, and the last twice.png
  found = rejected(images)
  assert found.keys() == reasons.keys()
  for name, reason in reasons.items():
    assert reason in found[name], name
  new = {*tmp_path.parent.rglob("*")} - before
  assert all(path.is_relative_to(tmp_path / "set") for path in new)


def test_members_are_never_inflated_beyond_their_size(tmp_path):
  path = tmp_path / "bomb.zip"
  with zipfile.ZipFile(path, "w") as archive:
    write_member(archive, "1.png", bytes(10**7))
  path.write_bytes(patch_entry(path.read_bytes(), b"1.png", 24, "<I", 1000))
  dataset = config_of(str(path), 16).dataset
  with folder.open_folder(dataset, 16) as source:
    tracemalloc.start()
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
      source.load(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  assert peak < 10**6  # bytes


@pytest.fixture
def photos(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, "PAUSES_SECS", (0.0, 0.0))
  folder = tmp_path / "photos"
  folder.mkdir()
  for i in range(4):
    image = Image.fromarray(np.full((16, 16, 3), i, np.uint8))
    image.save(folder / f"{i}.png")
  return folder


def fail(monkeypatch, times):
  """Make the next reads of 2.png fail."""
  read_bytes, left = Path.read_bytes, iter(range(times))

  def failing(path):
    if path.name == "2.png" and next(left, None) is not None:
      raise OSError(errno.EIO, "the disk says no", str(path))
    return read_bytes(path)

  monkeypatch.setattr(Path, "read_bytes", failing)


def test_a_failing_disk_is_read_again(photos, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    fail(patch, times=100)
    with pytest.raises(
      OSError, match=r"2\.png cannot be read after 3 attempts: the disk says no"
    ):
      prepare(photos, tmp_path / "set")
  assert not (tmp_path / "set").exists()
  fail(monkeypatch, times=2)
  images = prepare(photos, tmp_path / "set")
  assert [image["image"][0, 0, 0] for image in images] == [0, 1, 2, 3]


def test_reasons_are_for_people():
  object_in_memory = "file <_io.BytesIO object at 0x7f10>"
  for error, expected in (
    (ValueError("two\n lines"), "two lines"),
    (OSError(object_in_memory), "file <_io.BytesIO object>"),
    (FileNotFoundError(2, "No such file", "/home/me/1.png"), "No such file"),
    (KeyError(305), "damaged: KeyError 305"),
    (EOFError(), "damaged: EOFError"),
    (ValueError("x" * 900), "x" * 200),
    (ValueError("\x1b[31mred"), r"\x1b[31mred"),
  ):
    assert reading.reason_of(error) == expected
