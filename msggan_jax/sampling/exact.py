"""Images with the values of a run's source: .npy, TIFF, 16-bit PNG."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from msggan_jax.data import pictures, pixels
from msggan_jax.data.arrays import needs
from msggan_jax.data.values import Range
from msggan_jax.runtime import files
from msggan_jax.runtime.errors import counted
from msggan_jax.sampling.job import Job

_ENDINGS = {"npy": "npy", "tiff": "tif", "png16": "png"}
_RECORD = "values.json"  # beside the images


def write(job: Job, format: str) -> list[str]:
  """Write each seed's values at every chosen scale, and a grid of pictures.

  .npy and TIFF hold float32 in the source's unit, (H, W, C); 16-bit PNG holds
  0 to 65535 for its range. Range and units are in `values.json`, and in the
  files of TIFF and PNG. Without a range, pictures have values from 0 to 255.
  """
  channels = job.generator.config.channels
  value_range = job.generator.value_range or Range(
    (0.0,) * channels, (255.0,) * channels, ("",) * channels
  )
  if format == "png16" and channels not in pixels.MODES:
    raise ValueError(
      f"--format=png16 has 1, 3 or 4 channels, not {channels}: choose tiff or "
      "npy"
    )
  folders = {r: job.output / f"{r}x{r}" for r in job.chosen}
  about = {
    name: getattr(value_range, name) for name in ("low", "high", "units")
  }
  for folder in folders.values():
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / _RECORD, json.dumps(about) + "\n")
  first: dict[int, list[np.ndarray]] = {r: [] for r in folders}
  seeds = iter(job.seeds)
  for pyramid in job.pyramids(range(len(job.seeds))):
    images = dict(zip(job.available, pyramid, strict=True))
    shown = job.to_scales(pyramid)
    for r in folders:
      most = max(16, pictures.grid_columns(r) ** 2)
      first[r] += [*shown[r][: most - len(first[r])]]
    for i in range(len(pyramid[0])):
      name = f"seed{next(seeds):04d}.{_ENDINGS[format]}"
      for r, folder in folders.items():
        content = _encode(images[r][i], format, value_range, about)
        with files.replacing(folder / name, durable=False) as temporary:
          temporary.write_bytes(content)
  lines = []
  for r, folder in folders.items():
    path = job.output / f"grid_{r}x{r}.png"
    pictures.save_sheet(pictures.grid(np.stack(first[r])), path)
    many = counted(len(job.seeds), "image")
    lines.append(f"{folder}: {many}, {value_range.describe()}; {path}")
  return lines


def _encode(
  image: np.ndarray, format: str, value_range: Range, about: Mapping[str, Any]
) -> bytes:
  if format == "png16":
    whole = Range(value_range.low, value_range.high, (), "uint16")
    stored = whole.store(value_range.restore(image))
    return pixels.encode_png16(stored, json.dumps(about))
  values, file = value_range.restore(image), io.BytesIO()
  if format == "npy":
    np.save(file, values)
  else:
    planar = {"planarconfig": "contig"} if image.shape[-1] > 1 else {}
    needs("tifffile", "arrays", "--format=tiff").imwrite(
      file,
      values,
      photometric="minisblack",
      compression="zlib",
      description=json.dumps(about),
      metadata=None,
      **planar,
    )
  return file.getvalue()
