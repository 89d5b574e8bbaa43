"""From an opened image to a square of pixels and to PNG, with Pillow."""

import functools
import io
import math
import re
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from msggan_jax.data import reading

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
MARK = "msggan_jax"  # keyword of the text in PNG files of this package
SHEET = "sheet"  # several images; a sample has `Job.marks`
MOST_BYTES = 2**30  # of an image in memory

_SRGB = ImageCms.createProfile("sRGB")
# Color space of an ICC profile and mode of its sRGB image, by an image's mode.
_COLOR_SPACES = {
  "L": ("GRAY", "RGB"),
  "RGB": ("RGB", "RGB"),
  "RGBA": ("RGB", "RGBA"),
  "CMYK": ("CMYK", "RGB"),
}


def check_resolution(resolution: int) -> None:
  """Raise ValueError unless the resolution is a power of two, 4 or more."""
  if resolution < 4 or resolution & (resolution - 1):
    raise ValueError(
      f"resolution is {resolution}; it must be a power of two, 4 or more"
    )


class Question(ValueError):
  """Something about a source that its files do not say; no image is skipped."""


def fit(
  image: Image.Image, size: tuple[int, int], channels: int, crop: str
) -> np.ndarray:
  """Turn an image of any mode and aspect ratio into one of a given size.

  EXIF rotation is applied, colors converted to sRGB by the ICC profile,
  transparency composited over white (unless alpha is wanted), and nothing is
  squashed or enlarged. Resizing averages the sRGB values, not linear light.

  Args:
    crop: "center" cuts out the central part of the wanted aspect ratio, "pad"
      keeps the whole image and adds white (with 4 channels: transparent)
      borders.

  Returns:
    uint8, (height, width, channels).
  """
  height, width = size
  there = upright_size(image)
  if not _is_enough(there, size, crop):
    raise ValueError("too small: {}x{}".format(*image.size))
  # JPEG decodes at 1/2, 1/4, 1/8 of its size for almost nothing; the margin of
  # two leaves the last reduction to the better filter below.
  image.draft(None, (2 * max(size), 2 * max(size)))
  with reading.in_turn(check_memory(image, there)):
    if deep_tiles(image):  # Pillow keeps the high bytes
      colors = image.getextrema()[: 4 if image.mode == "CMYK" else 3]
      if most := max(high for _, high in colors):  # 0: black, or nearly
        _check_levels(256 * most + 255)
    image = ImageOps.exif_transpose(image)
    image = _to_mode(image, MODES[channels])
    image = (_center_crop if crop == "center" else _pad)(image, width, height)
  return np.asarray(image).reshape(height, width, channels)


def fit_values(
  values: np.ndarray, size: tuple[int, int], crop: str
) -> np.ndarray:
  """Crop or pad values from 0 to 1, (H, W, C), as `fit`; float32.

  Smaller images are means over areas, so that no value is beyond the image's;
  borders are 0.
  """
  check_size(values, size, crop)
  change = _center_crop if crop == "center" else _pad
  planes = np.moveaxis(np.asarray(values, np.float32), -1, 0)
  planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in planes)
  return np.stack([np.asarray(change(x, *size[::-1])) for x in planes], -1)


def check_size(values: np.ndarray, size: tuple[int, int], crop: str) -> None:
  """Raise ValueError if values, (H, W, C), would be enlarged."""
  if not _is_enough(values.shape[1::-1], size, crop):
    raise ValueError("too small: {1}x{0}".format(*values.shape))


def _is_enough(
  there: tuple[int, ...], size: tuple[int, int], crop: str
) -> bool:
  """Return whether an image, (width, height), needs no enlargement."""
  enough = there[0] >= size[1], there[1] >= size[0]
  # "pad" fits the whole image into the result, "center" the result into it.
  return all(enough) if crop == "center" else any(enough)


def deep_tiles(image: Image.Image) -> str:
  """Return the raw mode of 16-bit colors, not yet decoded, or ""."""
  tiles = getattr(image, "tile", None)
  modes = tiles[0].args if tiles else ""
  mode = str(modes[0] if isinstance(modes, tuple) and modes else modes)
  return mode if re.fullmatch("(LA|RGB[AXa]?|CMYK);16[BLN]", mode) else ""


def _check_levels(highest: int) -> None:
  """Raise Question if most levels of 16 bits are not used."""
  if 0 < highest < 2**14:
    raise Question(
      f"16 bits whose values reach only {highest} would keep few of 8 bits' "
      "levels: give their range, such as --range=0:4095 or --range=auto, or "
      "--range=0:65535 for all of it (--config.dataset.range)"
    )


def to_image(pixels: np.ndarray) -> Image.Image:
  """Return pixels, uint8 (H, W, C) with C = 1, 3 or 4, as Pillow's image."""
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encode_png(pixels: np.ndarray) -> bytes:
  """Encode pixels as `to_image` accepts them, without loss."""
  file = io.BytesIO()
  # Level 1 is three times as fast as the default, for 5 to 10 % more bytes.
  to_image(pixels).save(file, "PNG", compress_level=1)
  return file.getvalue()


def encode_png16(pixels: np.ndarray, text: str = "") -> bytes:
  """Encode uint16, (H, W, C) with C = 1, 3 or 4; Pillow has only gray.

  `text` is kept under `MARK`.
  """
  height, width, channels = pixels.shape
  kind = {1: 0, 3: 2, 4: 6}[channels]
  rows = pixels.astype(">u2").reshape(height, -1)
  data = b"".join(b"\0" + row.tobytes() for row in rows)  # 0: no filter
  chunks = {
    b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0),
    b"tEXt": MARK.encode() + b"\0" + text.encode("latin-1", "replace"),
    b"IDAT": zlib.compress(data),
    b"IEND": b"",
  }
  if not text:
    del chunks[b"tEXt"]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(x))
    + name
    + x
    + struct.pack(">I", zlib.crc32(name + x))
    for name, x in chunks.items()
  )


def decode_png(data: bytes) -> np.ndarray:
  """Decode what `encode_png` made: uint8, (H, W, C)."""
  with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
    pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
  """Return the width and height after EXIF rotation."""
  # Pillow turns TIFFs itself, before they are decoded.
  if image.width == image.height or image.format == "TIFF":
    return image.size
  turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
  return image.size[::-1] if turned else image.size


def check_memory(image: Image.Image, size: tuple[int, int]) -> int:
  """Return the bytes that decoding takes, of an image of a size in its file.

  Raises:
    ValueError: If it takes more than MOST_BYTES.
  """
  needed = 4 * math.prod(image.size)  # Pillow's, of most modes
  if "progressive" in image.info:  # the JPEG decoder keeps all coefficients
    needed += 2 * len(image.getbands()) * math.prod(size)
  if needed > MOST_BYTES:
    raise ValueError(
      f"too large: {size[0]}x{size[1]} pixels take {needed / 2**30:.1f} GiB of "
      f"memory, more than {MOST_BYTES / 2**30:g}"
    )
  return needed


def _filter_of(image: Image.Image) -> Image.Resampling:
  values = image.mode == "F"
  return Image.Resampling.BOX if values else Image.Resampling.LANCZOS


def _center_crop(image: Image.Image, width: int, height: int) -> Image.Image:
  scale = min(image.width / width, image.height / height)
  size = round(width * scale), round(height * scale)
  # Whole pixels: half a pixel of offset would blur an image of the right size.
  left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
  return image.resize(
    (width, height),
    _filter_of(image),
    box=(left, top, left + size[0], top + size[1]),
    reducing_gap=3.0,
  )


def _pad(image: Image.Image, width: int, height: int) -> Image.Image:
  scale = min(width / image.width, height / image.height)
  size = tuple(max(1, round(side * scale)) for side in image.size)
  image = image.resize(size, _filter_of(image), reducing_gap=3.0)
  colors = {"L": 255, "RGB": (255,) * 3, "RGBA": (255, 255, 255, 0), "F": 0}
  color = colors[image.mode]
  padded = Image.new(image.mode, (width, height), color)
  padded.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
  return padded


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
  if image.mode == "F":
    raise ValueError(
      "floating-point pixels have no known range: add --range=LOW:HIGH"
    )
  profile = image.info.get("icc_profile")
  if image.mode.startswith("I"):
    image = _sixteen_to_eight_bits(image)
  if image.has_transparency_data:
    image = image.convert("RGBA")
  elif image.mode == "P":
    image = image.convert("RGB")
  if profile and (to_srgb := _transform_to_srgb(profile, image.mode)):
    image = ImageCms.applyTransform(image, to_srgb)
  if image.mode == "RGBA" and mode != "RGBA":
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    image = white
  return image.convert(mode)


@functools.lru_cache(64)
def _transform_to_srgb(
  profile: bytes, mode: str
) -> ImageCms.ImageCmsTransform | None:
  """Return the transform of a profile's colors; None if they are sRGB already.

  As browsers do, a profile that is damaged or of other colors is ignored.
  """
  space, new_mode = _COLOR_SPACES.get(mode, ("", ""))
  try:
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if theirs.profile.xcolor_space.strip() != space:
      return None
    transform = ImageCms.buildTransform(
      theirs,
      _SRGB,
      mode,
      new_mode,
      ImageCms.Intent.RELATIVE_COLORIMETRIC,
      ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
  except (ImageCms.PyCMSError, OSError):
    return None
  if space == "RGB":
    levels = np.arange(0, 256, 15, np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    colors = Image.fromarray(cube).convert(mode)
    there = np.asarray(ImageCms.applyTransform(colors, transform))
    if np.abs(there.astype(int) - np.asarray(colors)).max() <= 1:
      return None
  return transform


def to_eight_bits(levels: np.ndarray) -> np.ndarray:
  """Return levels of 16 bits, int32, as uint8, each the nearest."""
  return ((levels + 128) // 257).astype(np.uint8)  # 65535 / 257 = 255


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
  levels = np.asarray(image).astype(np.int32)
  if levels.min() < 0 or levels.max() > 65535:
    raise ValueError("32-bit pixels have no known range: add --range=LOW:HIGH")
  _check_levels(int(levels.max()))
  return Image.fromarray(to_eight_bits(levels))
