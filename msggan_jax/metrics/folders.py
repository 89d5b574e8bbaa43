"""Metrics of two folders, zips or prepared sets, without any model."""

import contextlib
import hashlib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageOps

from msggan_jax.data import prepared_set
from msggan_jax.data.pixels import fit
from msggan_jax.data.sources import Source, folder
from msggan_jax.metrics import feature_pass, protocols
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Draw, Reals, read_images

_BATCH_PER_DEVICE = 16


def compare(
  reals: str,
  fakes: str,
  extractors: Extractors,
  names: str | Sequence[str],
  *,
  progress: bool = False,
) -> tuple[dict[str, float], dict[str, Any]]:
  """Return metrics of two folders, zip files or prepared sets, and provenance.

  Each set's images must be readable and of one size.
  """
  parsed = protocols.parse(names, extractors.names)
  for protocol in parsed:
    _check(protocol, extractors)
  batch_size = _BATCH_PER_DEVICE * jax.local_device_count()
  with _open(reals) as real_images, _open(fakes) as fake_images:
    requests = {}
    for protocol in parsed:
      count = protocol.num_fakes or len(fake_images)
      if count > len(fake_images):
        raise ValueError(
          f"{protocol.name}: {fakes} has only {len(fake_images)} images"
        )
      requests[protocol] = feature_pass.request_of(
        protocol, extractors, fake_images.height, count
      )
    all_fakes = Draw.first(len(fake_images))
    measured = feature_pass.measure(
      read_images(fake_images.read, {fake_images.height}, all_fakes),
      requests.values(),
      extractors,
      batch_size=batch_size,
      progress="fakes" if progress else "",
    )
    real_statistics = Reals(real_images.read, len(real_images)).statistics(
      parsed,
      extractors,
      real_images.height,
      batch_size=batch_size,
      progress="reals" if progress else "",
    )
    values = {}
    for protocol, request in requests.items():
      both = real_statistics.get(protocol), measured[request]
      values |= feature_pass.compute(protocol, *both)
    return values, {
      "data_hash": real_images.content_hash,
      "fakes_hash": fake_images.content_hash,
      **feature_pass.provenance(parsed, extractors),
    }


def _check(protocol: Protocol, extractors: Extractors) -> None:
  official = protocol.draws == "official"
  if official or protocol.per_class or protocol.kind == "copying":
    raise ValueError(f"{protocol.name}: only a run has it, not two folders")
  if protocol.resolution:
    raise ValueError(f"{protocol.name}: folders have no scales")
  feature_pass.check(protocol, extractors)


class _Images:
  """The images of a folder, all of one size."""

  def __init__(self, source: Source, path: str):
    if len(source.names) < 2:
      raise ValueError(f"{path} has {len(source.names)} image(s)")
    self._source = source
    self._path = path
    self._hashes: dict[int, bytes] = {}
    self._shape: tuple[int, ...] | None = None
    self._shape = self.read(0).shape
    self.height = self._shape[0]

  def __len__(self) -> int:
    return len(self._source.names)

  def read(self, index: int) -> np.ndarray:
    """Read an image: uint8 (H, W, 3), transparency over white."""
    name = f"{self._path}: {self._source.names[index]}"
    try:
      image = ImageOps.exif_transpose(self._source.load(index)[0])
      pixels = fit(image, (image.height, image.width), 3, "center")
    except Exception as error:  # Pillow raises many types for damaged files
      raise ValueError(f"{name} cannot be read: {error}") from error
    if self._shape and pixels.shape != self._shape:
      raise ValueError(
        f"{name} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the first "
        f"image {self._shape[1]}x{self._shape[0]}; make all of one size"
      )
    self._hashes[index] = hashlib.sha256(pixels.tobytes()).digest()
    return pixels

  @property
  def content_hash(self) -> str:
    """SHA-256 over those of the images that were read, in order."""
    hashes = [self._hashes[index] for index in sorted(self._hashes)]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


@contextlib.contextmanager
def _open(path: str) -> Iterator[_Images]:
  if not Path(path).exists():
    raise ValueError(f"{path} does not exist")
  if prepared_set.is_prepared(Path(path)):
    yield _Images(_prepared_source(path), path)
    return
  dataset = types.SimpleNamespace(path=path)
  with folder.open_folder(dataset, resolution=0) as source:
    yield _Images(source, path)


def _prepared_source(path: str) -> Source:
  images = prepared_set.open_prepared(path)

  def load(index: int) -> tuple[Image.Image, int]:
    record = images[index]
    return Image.fromarray(record["image"].squeeze()), int(record["label"])

  return Source([f"image {i}" for i in range(len(images))], load)
