"""Recognize and open image files, with Pillow."""

import functools
import io
import re
import struct
from collections.abc import Callable
from typing import Any

from PIL import Image, UnidentifiedImageError

from msggan_jax.data.pixels import MARK, SHEET, check_memory

HEAD_BYTES = 256  # of a file, by which `is_image` knows it

# Formats of photos and drawings. Not EPS, PDF and the like, which run other
# programs or are not images.
_FORMATS = frozenset(
  "AVIF BMP GIF HEIF JPEG JPEG2000 MPO PNG PPM TGA TIFF WEBP".split()
)
_WEAK_SIGNATURES = frozenset("PPM TGA".split())  # two bytes, or none
# Other images by their first bytes, and what to do about them.
_UNREAD = {
  rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL is not read: convert it to PNG",
  rb".{128}DICM": "DICOM needs its range: add --range=LOW:HIGH",
  rb"\x93NUMPY": "a NumPy array needs its range: add --range=LOW:HIGH",
  rb"PK\x03\x04": "an archive is not opened: unpack it",
  rb"8BPS": "a Photoshop file is not read: export it as PNG",
  rb"v/1\x01|#\?RADIANCE": "HDR is not read: convert it to PNG",
  rb"II\*\0....CR|....ftypcrx |FUJIFILMCCD-RAW|IIRO|IIRS|IIU\0|FOVb": (
    _RAW := "a raw photo is not read: develop it to PNG or JPEG"
  ),
}
_HEIC = rb"....ftyp(?:hei|hev|(?:mif1|msf1).{4,40}hei)"
_TIFF_SUBFILE_TYPE, _TIFF_DNG_VERSION = 254, 50706


@functools.cache
def _openers() -> dict[str, tuple[Any, Any]]:
  """Return Pillow's factory and test of each format that we read."""
  try:
    import pillow_heif

    pillow_heif.register_heif_opener()
  except ImportError:  # an extra
    pass
  Image.init()
  known = sorted(_FORMATS & Image.OPEN.keys(), key=lambda x: (x == "TGA", x))
  return {name: Image.OPEN[name] for name in known}


@functools.cache
def _extensions() -> tuple[str, ...]:
  return tuple(
    extension
    for extension, name in [*Image.registered_extensions().items()]
    if name in _openers()
  )


def is_image_name(name: str) -> bool:
  """Return whether a file name has the extension of a readable format."""
  _openers()
  return name.lower().endswith(_extensions())


def is_image(head: bytes) -> bool:
  """Return whether a file is a readable image, by its first bytes."""
  return any(
    test and _passes(test, head)
    for name, (_, test) in _openers().items()
    if name not in _WEAK_SIGNATURES
  )


def mark_of(head: bytes) -> str | None:
  """Return this package's mark on a PNG file, by its first bytes."""
  try:
    return Image.open(io.BytesIO(head), formats=["PNG"]).info.get(MARK)
  except (OSError, SyntaxError, ValueError):  # damaged, or another file
    return None


def why_unread(head: bytes) -> str:
  """Return why an image with these first bytes is not read, or ""."""
  if "HEIF" not in _openers() and re.match(_HEIC, head, re.DOTALL):
    return "HEIC needs pillow-heif: pip install 'msggan_jax[heic]'"
  matching = (k for k in _UNREAD if re.match(k, head, re.DOTALL))
  return next(map(_UNREAD.get, matching), "")


def _passes(test: Callable[[bytes], bool | str], head: bytes) -> bool:
  # Pillow's test returns a text if a library is missing.
  return test(head[:16]) is True


class SheetError(ValueError):
  """A picture of several images, which this package has made."""


def open_image(data: bytes) -> Image.Image:
  """Open an encoded image, of an animation or a TIFF the first page.

  Its pixels are decoded later, on first use. What cannot be used raises one of
  many exceptions of Pillow's.
  """
  if not data:
    raise ValueError("empty file")
  if reason := why_unread(data[:HEAD_BYTES]):
    raise ValueError(reason)
  # Not `Image.open`: it refuses large JPEGs, which `fit` decodes reduced.
  for factory, test in _openers().values():
    if test and not _passes(test, data):
      continue
    try:
      image = factory(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error):
      continue  # another format, or damaged
    if image.format == "TIFF" and _is_preview(image):
      raise ValueError(_RAW)
    if image.format not in ("JPEG", "MPO"):  # `fit` reduces these first
      check_memory(image, image.size)
    if image.info.get(MARK) == SHEET:
      raise SheetError("a sheet of images that msggan_jax has made")
    return image
  # Pillow's words name an object in memory.
  raise UnidentifiedImageError("cannot identify the image's format")


def _is_preview(image: Any) -> bool:
  """Return whether a TIFF is a camera's raw file, such as DNG and NEF."""
  tags = image.tag_v2
  return tags.get(_TIFF_SUBFILE_TYPE) == 1 or _TIFF_DNG_VERSION in tags
