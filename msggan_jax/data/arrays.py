"""From a file of values to one or several arrays, (H, W, C).

NumPy's .npy and .npz, TIFF (tifffile), DICOM (pydicom), NIfTI (nibabel), and
the pictures of `pixels.py`, whose 16 bits are kept here. Nothing is unpickled,
and sizes are checked before anything large is allocated.
"""

import gzip
import importlib
import io
import logging
import math
import re
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

from msggan_jax.data import image_files, pixels
from msggan_jax.data.pixels import MOST_BYTES, Question

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ENDINGS = (".npy", ".npz", ".dcm", ".nii", ".nii.gz")
# Letters of a layout: a digit is so many neighbors that become channels.
_LAYOUT = re.compile(r"[HWCN2-9]{2,4}")


class Values(NamedTuple):
  """The values of a file or of an image."""

  array: np.ndarray
  layout: str = ""  # its axes, if they are known
  unit: str = ""


def is_array_name(name: str) -> bool:
  """Return whether a file name has the ending of a format of values."""
  return name.lower().endswith(_ENDINGS)


def is_array(head: bytes) -> bool:
  """Return whether a file holds values, by its first bytes."""
  return head[:6] == _NPY or head[128:132] == b"DICM"


def check_layout(layout: str) -> None:
  """Raise ValueError unless it names each axis once, H and W among them."""
  letters = re.sub(r"\d", "N", layout)
  once = len(set(letters)) == len(letters) and {"H", "W"} <= set(letters)
  both = has_neighbors(layout) and "C" in layout
  if layout and (not _LAYOUT.fullmatch(layout) or not once or both):
    raise ValueError(
      f"layout is {layout!r}; name the axes of a file's array: H, W, C "
      "(channels), N (one image each), or a digit instead of N and C (so many "
      "neighbors are the channels of an image), such as HWC, NHWC or WH3"
    )


def read(data: bytes, name: str) -> Values:
  """Read a file's array with the library that its format needs.

  Raises:
    ValueError: In one sentence, if it is no array of real numbers.
  """
  name = name.lower()
  if data[:6] == _NPY:
    values = Values(_npy(io.BytesIO(data), len(data)))
  elif name.endswith(".npz"):
    values = _npz(data)
  elif data[128:132] == b"DICM":  # whose first bytes may be those of a TIFF
    values = _dicom(data)
  elif data[:4] in _TIFF:
    values = _tiff(data)
  elif name.endswith((".nii", ".nii.gz")):
    values = _nifti(data)
  else:
    values = _picture(data)
  array = values.array
  if array.dtype.kind == "b":
    array = array.astype(np.uint8)
  if array.dtype.kind not in "iuf":
    kinds = {"c": "complex numbers", "V": "records", "O": "objects"}
    kind = kinds.get(array.dtype.kind, f"of type {array.dtype}")
    raise ValueError(f"its values are {kind}: store real numbers")
  return values._replace(array=array)


def has_several(layout: str) -> bool:
  """Return whether a file of a layout has several images."""
  return bool(re.search(r"[N\d]", layout))


def has_neighbors(layout: str) -> bool:
  """Return whether the channels of a layout are neighbors in a file."""
  return bool(re.search(r"\d", layout))


def images(array: np.ndarray, layout: str) -> np.ndarray:
  """Return the images in an array of a layout, a view, (N, H, W, C)."""
  if array.ndim != len(layout):
    raise Question(f"its array is {array.shape}, but layout is {layout}")
  if not array.size:
    raise ValueError(f"its array is empty: {array.shape}")
  if neighbors := re.search(r"\d", layout):
    many, axis = int(neighbors[0]), neighbors.start()
    if array.shape[axis] < many:
      raise Question(
        f"its array is {array.shape}, which has no {many} neighbors"
      )
    array = np.lib.stride_tricks.sliding_window_view(array, many, axis)
    layout = layout.replace(neighbors[0], "N") + "C"
  for letter in "NC":
    if letter not in layout:
      array, layout = array[..., None], layout + letter
  return array.transpose([layout.index(letter) for letter in "NHWC"])


def image(values: Values, layout: str, index: int = 0) -> Values:
  """Return one of a file's images, (H, W, C); as it is if no layout is known.

  The layout is the file's own if none is given.
  """
  layout = layout or values.layout
  if not layout:
    return values
  array = images(values.array, layout)[index]
  if has_several(layout):  # pixels of others lie between its own
    array = array.copy("K")
  return values._replace(array=array, layout="HWC")


def checked(values: Any, channels: int) -> np.ndarray:
  """Return an image's values, (H, W, C); raise ValueError if any is no number.

  Raises:
    Question: If it has other channels, or if its axes could be several things.
  """
  array, shape, layout = values.array, values.array.shape, values.layout
  if not layout and array.ndim == 2:
    layout = "HW"
  elif not layout:
    ends = {"HWC": shape[-1:], "CHW": shape[:1]}
    fitting = [x for x, size in ends.items() if size == (channels,)]
    if array.ndim != 3 or len(fitting) != 1:
      raise Question(
        f"its array is {shape}, but channels is {channels}: name its axes in "
        "layout, such as CHW or NHW, or choose channels"
      )
    layout = fitting[0]
  array = image(values, layout).array
  if array.shape[-1] != channels:
    raise Question(
      f"its channels are {array.shape[-1]}, but channels is {channels}"
    )
  if bad := array.size - int(np.isfinite(array).sum()):
    raise ValueError(f"NaN or Inf: {bad:,} of its {array.size:,} values")
  return array


def needs(package: str, extra: str, what: str) -> Any:
  try:
    return importlib.import_module(package)
  except ImportError as error:
    raise Question(
      f"{what} needs {package}: pip install 'msggan_jax[{extra}]'"
    ) from error


def _check_size(shape: tuple[int, ...], dtype: np.dtype) -> None:
  needed = math.prod(map(int, shape)) * dtype.itemsize
  if needed > MOST_BYTES:
    raise ValueError(
      f"too large: its array {shape} takes {needed / 2**30:.1f} GiB of memory, "
      f"more than {MOST_BYTES / 2**30:g}"
    )


def _npy(file: Any, size: int) -> np.ndarray:
  version = np.lib.format.read_magic(file)
  readers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  if version not in readers:
    raise ValueError(f"version {version} of .npy is not read")
  shape, fortran, dtype = readers[version](file)
  if dtype.hasobject:
    raise ValueError("its values are objects, which are not unpickled")
  _check_size(shape, dtype)
  needed = math.prod(shape) * dtype.itemsize
  data = file.read(needed) if needed <= size else b""
  if len(data) < needed:
    raise ValueError(f"truncated: less than the {needed} bytes of its array")
  array = np.frombuffer(data, dtype)
  return array.reshape(shape, order="F" if fortran else "C")


def _npz(data: bytes) -> Values:
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    keys = [x for x in archive.infolist() if x.filename.endswith(".npy")]
    if len(keys) != 1:
      raise ValueError(f"an .npz of one array is read; this has {len(keys)}")
    with archive.open(keys[0]) as file:
      return Values(_npy(file, keys[0].file_size))


def _tiff(data: bytes) -> Values:
  tifffile = needs("tifffile", "arrays", "TIFF")
  logging.getLogger("tifffile").setLevel(logging.CRITICAL)
  _check_pages(data)
  with tifffile.TiffFile(io.BytesIO(data)) as file:
    first, *others = file.series
    # Pages that were written one by one, unless they are thumbnails.
    pages = [
      x for x in others if (x.shape, x.dtype) == (first.shape, first.dtype)
    ]
    shape = (1 + len(pages), *first.shape) if pages else first.shape
    _check_size(shape, np.dtype(first.dtype))
    axes = {"YX": "HW", "YXS": "HWC", "SYX": "CHW"}.get(first.axes, "")
    try:
      arrays = [x.asarray(maxworkers=1) for x in (first, *pages)]
      return Values(np.stack(arrays)) if pages else Values(arrays[0], axes)
    except (ValueError, ImportError) as error:
      if isinstance(error, ValueError) and "imagecodecs" not in str(error):
        raise
      raise Question(
        "this TIFF's compression needs imagecodecs: pip install imagecodecs"
      ) from error


def _check_pages(data: bytes) -> None:
  """Raise ValueError if a TIFF's pages overlap, which could be endless."""
  order = "<" if data[:1] == b"I" else ">"
  big = data[2:4] in (b"+\0", b"\0+")
  # Formats of an offset and of a number of tags; bytes of a tag.
  at, many, tag = ("Q", "Q", 20) if big else ("I", "H", 12)
  (place,), taken = struct.unpack_from(order + at, data, 8 if big else 4), 0
  while place:
    (tags,) = struct.unpack_from(order + many, data, place)
    end = place + struct.calcsize(many) + tag * tags
    taken += end - place
    if taken > len(data):
      raise ValueError("damaged: its pages overlap")
    (place,) = struct.unpack_from(order + at, data, end)


def _picture(data: bytes) -> Values:
  picture = image_files.open_image(data)
  if picture.format == "PPM":
    decoder = picture.tile[0].args  # (mode, maximum) if Pillow may scale
    kept = {"F": decoder[1:], "I": (65535,)}.get(picture.mode, (255,))
    if isinstance(decoder, tuple) and decoder[1:] not in ((), kept):
      raise ValueError("PGM or PPM of this maximum: save it as PNG or TIFF")
  if picture.mode in ("P", "1"):
    picture = picture.convert("RGB" if picture.mode == "P" else "L")
  if picture.mode not in ("L", "LA", "RGB", "RGBA", "I;16", "I", "F"):
    raise ValueError(f"colors of mode {picture.mode} are no values")
  if high := pixels.deep_tiles(picture):
    if high.startswith("LA"):
      raise ValueError("16 bits of gray with alpha: save it without alpha")
    # Pillow keeps the high bytes only, and the low ones if they are called so.
    low = image_files.open_image(data)
    low.tile = [x._replace(args=high.replace("16B", "16L")) for x in low.tile]
    both = (np.asarray(x).astype(np.uint16) for x in (picture, low))
    return Values(next(both) * 256 + next(both), "HWC")
  array = np.asarray(picture)
  if picture.format == "JPEG2000":
    array = _unscaled(array, data)
  return Values(array, "HWC"[: array.ndim])


def _unscaled(array: np.ndarray, data: bytes) -> np.ndarray:
  """Return the values in a JPEG 2000 file, which Pillow scales to its types."""
  place = data.find(b"\xff\x4f\xff\x51") + 42  # of the marker SIZ
  kinds = {*data[place : place + 3 * data[place - 1] : 3]}  # of each channel
  unused = 8 * array.dtype.itemsize - 1 - max(kinds)
  if len(kinds) > 1 or unused < 0:  # also signed ones, which have the high bit
    raise ValueError("JPEG 2000 of these bits: save it as PNG or TIFF")
  return array >> unused


def _dicom(data: bytes) -> Values:
  pydicom = needs("pydicom", "medical", "DICOM")
  scan = pydicom.dcmread(io.BytesIO(data))
  if "PixelData" not in scan:
    raise ValueError("DICOM without pixels")
  frames = int(scan.get("NumberOfFrames", 1) or 1)
  shape = frames, int(scan.Rows), int(scan.Columns), int(scan.SamplesPerPixel)
  _check_size(shape, np.dtype(np.float64))
  try:
    array = scan.pixel_array
  except RuntimeError as error:
    if "missing dependencies" not in str(error):
      raise
    raise Question(
      "this DICOM's compression needs a package of pydicom's decoders: "
      "pip install 'pylibjpeg[all]'"
    ) from error
  slope, intercept = _slope_and_intercept(scan)
  return Values(
    _scaled(array, slope, intercept),
    "HWC"[: array.ndim] if frames == 1 else "",
    unit="HU" if scan.get("Modality") == "CT" else "",
  )


def _slope_and_intercept(scan: Any) -> tuple[float, float]:
  """Return those of a DICOM image; enhanced ones have them in groups."""
  groups = [
    group["PixelValueTransformationSequence"][0]
    for name in ("SharedFunctional", "PerFrameFunctional")
    for group in scan.get(f"{name}GroupsSequence") or ()
    if group.get("PixelValueTransformationSequence")
  ]
  found = {
    (float(x.get("RescaleSlope", 1)), float(x.get("RescaleIntercept", 0)))
    for x in groups or [scan]
  }
  if len(found) > 1:
    raise ValueError("its frames have several slopes or intercepts")
  return found.pop()


def _scaled(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
  """Return slope * array + intercept, of integers where they stay so.

  Integers of two bytes become int32 in any case, so that a set has one type.
  """
  if (slope, intercept) == (1, 0):
    two_bytes = array.dtype.kind in "iu" and array.dtype.itemsize == 2
    return array.astype(np.int32) if two_bytes else array
  if array.dtype.kind in "iu" and slope == 1 and intercept == int(intercept):
    return array.astype(np.int32) + int(intercept)
  return array.astype(np.float64) * slope + intercept


def _nifti(data: bytes) -> Values:
  nibabel = needs("nibabel", "medical", "NIfTI")
  if data[:2] == b"\x1f\x8b":
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
      data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
      raise ValueError(f"too large: more than {MOST_BYTES / 2**30:g} GiB")
  kind = nibabel.Nifti1Image
  if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
    kind = nibabel.Nifti2Image
  scan = kind.from_bytes(data)
  _check_size(scan.shape, np.dtype(np.float64))
  slope, intercept = scan.dataobj.slope, scan.dataobj.inter
  array = np.asarray(scan.dataobj.get_unscaled())
  return Values(_scaled(array, slope, intercept))
