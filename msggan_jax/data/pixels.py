"""From an encoded image of any kind to a square of pixels, with Pillow."""

import functools
import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
CROPS = ("center", "pad")
MARK = "msggan_jax"  # the text of PNG files that says what they are
SHEET = "sheet"  # several images; a sample has `Job.marks`

# Formats of photos and drawings. Not EPS, PDF and the like, which run other
# programs or are not images.
_FORMATS = frozenset(
  "AVIF BMP GIF JPEG JPEG2000 MPO PNG PPM TGA TIFF WEBP".split()
)


def check_resolution(resolution: int) -> None:
  """Raise ValueError unless the resolution is a power of two, 4 or more."""
  if resolution < 4 or resolution & (resolution - 1):
    raise ValueError(
      f"resolution is {resolution}; it must be a power of two, 4 or more"
    )


@functools.cache
def _format_of_extension() -> dict[str, str]:
  """Return the formats we accept that this Pillow can read, by extension."""
  return {
    extension: name
    for extension, name in Image.registered_extensions().items()
    if name in _FORMATS and name in Image.OPEN
  }


def is_image_name(name: str) -> bool:
  """Tell whether a file name has the extension of an image format."""
  return name.lower().endswith(tuple(_format_of_extension()))


class SheetError(ValueError):
  """A picture of several images, which this package has made."""


def open_image(data: bytes) -> Image.Image:
  """Open an encoded image, of an animation the first frame.

  Its pixels are decoded later, on first use. What cannot be used raises one of
  many exceptions of Pillow's.
  """
  if not data:
    raise ValueError("empty file")
  formats = sorted(set(_format_of_extension().values()))
  try:
    image = Image.open(io.BytesIO(data), formats=formats)
  except UnidentifiedImageError:  # its words name an object in memory
    raise UnidentifiedImageError("cannot identify the image's format") from None
  if image.info.get(MARK) == SHEET:
    raise SheetError("a sheet of images that msggan_jax has made")
  return image


def fit(
  image: Image.Image, size: tuple[int, int], channels: int, crop: str
) -> np.ndarray:
  """Turn an image of any mode and aspect ratio into one of a given size.

  EXIF rotation is applied, transparency composited over white (unless alpha is
  wanted), and nothing is squashed or enlarged.

  Args:
    crop: "center" cuts out the central part of the wanted aspect ratio, "pad"
      keeps the whole image and adds white (with 4 channels: transparent)
      borders.

  Returns:
    uint8, (height, width, channels).
  """
  height, width = size
  there = upright_size(image)
  enough = there[0] >= width, there[1] >= height
  # "pad" fits the whole image into the result, "center" the result into it.
  if not (all(enough) if crop == "center" else any(enough)):
    raise ValueError("too small: {}x{}".format(*image.size))
  # JPEG decodes at 1/2, 1/4, 1/8 of its size for almost nothing; the margin of
  # two leaves the last reduction to the better filter below.
  image.draft(None, (2 * max(size), 2 * max(size)))
  image = _to_mode(ImageOps.exif_transpose(image), MODES[channels])
  if crop == "center":
    image = _center_crop(image, width, height)
  else:
    image = _pad(image, width, height)
  return np.asarray(image).reshape(height, width, channels)


def encode_png(pixels: np.ndarray) -> bytes:
  """Encode pixels, uint8 (H, W, C) with C = 1, 3 or 4, without loss."""
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  file = io.BytesIO()
  # Level 1 is three times as fast as the default, for 5 to 10 % more bytes.
  image.save(file, "PNG", compress_level=1)
  return file.getvalue()


def decode_png(data: bytes) -> np.ndarray:
  """Decode what `encode_png` made: uint8, (H, W, C)."""
  with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
    pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
  """Return the width and height after EXIF rotation."""
  if image.width == image.height:
    return image.size
  turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
  return image.size[::-1] if turned else image.size


def _center_crop(image: Image.Image, width: int, height: int) -> Image.Image:
  scale = min(image.width / width, image.height / height)
  size = round(width * scale), round(height * scale)
  # Whole pixels: half a pixel of offset would blur an image of the right size.
  left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
  return image.resize(
    (width, height),
    Image.Resampling.LANCZOS,
    box=(left, top, left + size[0], top + size[1]),
    reducing_gap=3.0,
  )


def _pad(image: Image.Image, width: int, height: int) -> Image.Image:
  scale = min(width / image.width, height / image.height)
  size = tuple(max(1, round(side * scale)) for side in image.size)
  image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
  color = {"L": 255, "RGB": (255,) * 3, "RGBA": (255, 255, 255, 0)}[image.mode]
  padded = Image.new(image.mode, (width, height), color)
  padded.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
  return padded


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
  if image.mode == "F":
    raise ValueError("floating-point pixels have no known range")
  if image.mode.startswith("I"):
    image = _sixteen_to_eight_bits(image)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    if mode != "RGBA":
      white = Image.new("RGBA", image.size, "white")
      white.alpha_composite(image)
      image = white
  return image.convert(mode)


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
  levels = np.asarray(image).astype(np.int32)
  if levels.min() < 0 or levels.max() > 65535:
    raise ValueError("32-bit pixels have no known range")
  # 65535 / 257 = 255, rounded to the nearest level.
  return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
