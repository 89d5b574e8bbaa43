"""Formats of single images: pictures, or values in the unit of a run's source.

.npy and TIFF hold floats, (H, W, C), in a TIFF of one channel (H, W); 16-bit
PNG holds 0 to 65535 for the run's range. TIFF and 16-bit PNG have range and
units in the file. Without a range, pictures have values from 0 to 255.
"""

import dataclasses
import io
import json

import numpy as np
from PIL.PngImagePlugin import PngInfo

from msggan_jax.data import arrays, pixels
from msggan_jax.data.values import Range
from msggan_jax.sampling.job import Job

ENDINGS = {"png": "png", "png16": "png", "tiff": "tif", "npy": "npy"}


def range_of(job: Job) -> Range:
  """Return the range of the values in a job's files."""
  config = job.generator.config
  channels = config.channels
  asked = config.get("dataset", {}).get("range", "")
  if asked and not job.generator.value_range:
    raise ValueError(
      f"the run's values have dataset.range {asked}, but its data.json, which "
      "has their ends, is missing or damaged"
    )
  colors = Range((0.0,) * channels, (255.0,) * channels, ("",) * channels)
  return job.generator.value_range or colors


def encode(job: Job, format: str, image: np.ndarray, mark: str) -> bytes:
  """Return the file of an image in [-1, 1], (H, W, C).

  `mark` is kept in a picture.
  """
  file = io.BytesIO()
  if format == "png":
    info = PngInfo()
    info.add_text(pixels.MARK, mark)
    shown = job.generator.view(image, job.bands)
    pixels.to_image(shown).save(file, "PNG", pnginfo=info)
    return file.getvalue()
  value_range = range_of(job)
  values = value_range.restore(image)
  if format == "png16":
    if image.shape[-1] not in pixels.MODES:
      raise ValueError(
        f"--format=png16 has 1, 3 or 4 channels, not {image.shape[-1]}: choose "
        "tiff or npy"
      )
    whole = dataclasses.replace(value_range, dtype="uint16")
    return pixels.encode_png16(
      whole.store(values), json.dumps(value_range.as_dict())
    )
  if format == "npy":
    np.save(file, values)
    return file.getvalue()
  arrays.needs("tifffile", "arrays", "--format=tiff").imwrite(
    file,
    values[..., 0] if image.shape[-1] == 1 else values,
    photometric="minisblack",
    planarconfig="contig" if image.shape[-1] > 1 else None,
    compression="zlib",
    description=json.dumps(value_range.as_dict()),
    metadata=None,
  )
  return file.getvalue()
