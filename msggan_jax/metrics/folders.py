"""Metrics of two folders, zips or prepared sets, without any model."""

import collections
import concurrent.futures
import contextlib
import hashlib
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from PIL import Image

from msggan_jax import data
from msggan_jax.data import prepared_set
from msggan_jax.data.pixels import SheetError, fit, to_image, upright_size
from msggan_jax.data.reading import printable_name, reason_of
from msggan_jax.data.sources import Source, dataset_of, folder
from msggan_jax.metrics import feature_pass, protocols
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Draw, Reals, read_images
from msggan_jax.models import base_grid

_BATCH_PER_DEVICE = 16

Size = tuple[int, int]  # height and width


def compare(
  reals: str,
  fakes: str,
  extractors: Extractors,
  names: str | Sequence[str],
  *,
  data_dir: str = "data",
  progress: bool = False,
) -> tuple[dict[str, float], dict[str, Any]]:
  """Return metrics of two folders, zip files or prepared sets, and provenance.

  The fakes are of one size. Real photos of other sizes are prepared at it in
  `data_dir`, and a larger prepared set is averaged like training's pyramid.
  """
  parsed = protocols.parse(names, extractors.names)
  for protocol in parsed:
    _check(protocol, extractors)
  with contextlib.ExitStack() as stack:
    fake_images = _open(fakes, stack)
    size = fake_images.only_size()
    count = len(fake_images)
    counts = {protocol: protocol.num_fakes or count for protocol in parsed}
    for protocol in parsed:
      if counts[protocol] > count:
        raise ValueError(f"{protocol.name}: {fakes} has only {count} images")
    real_images = _open_reals(reals, fake_images, data_dir, stack)
    resolution = base_grid.resolution_of(*size)
    batch_size = _BATCH_PER_DEVICE * jax.local_device_count()
    requests = {
      protocol: feature_pass.request_of(
        protocol, extractors, resolution, counts[protocol]
      )
      for protocol in parsed
    }
    measured = feature_pass.measure(
      read_images(
        fake_images.read,
        {resolution},
        Draw.shuffled(count, min(counts.values()) < count),
      ),
      requests.values(),
      extractors,
      batch_size=batch_size,
      progress="fakes" if progress else "",
    )

    def of_reals(method: Callable, wanted: Any, title: str) -> dict:
      return method(
        wanted,
        extractors,
        resolution,
        batch_size=batch_size,
        progress=title if progress else "",
      )

    source = real_images.as_reals()
    found = of_reals(source.statistics, parsed, "reals")
    values, doubts = {}, {}
    for protocol, request in requests.items():
      statistics = found.get(protocol)
      values |= feature_pass.compute(protocol, statistics, measured[request])
      if reason := feature_pass.doubt(protocol, statistics, request.count):
        doubts[protocol] = reason
        logging.warning("%s: %s", protocol.name, reason)
    values |= of_reals(source.floors, found, "few reals")
    return values, {
      "data_hash": source.content_hash or real_images.content_hash,
      "fakes_hash": fake_images.content_hash,
      **feature_pass.provenance(parsed, extractors, doubts),
    }


def _check(protocol: Protocol, extractors: Extractors) -> None:
  official = protocol.draws == "official"
  if official or protocol.per_class or protocol.kind == "copying":
    raise ValueError(f"{protocol.name}: only a run has it, not two folders")
  if protocol.resolution:
    raise ValueError(f"{protocol.name}: folders have no scales")
  feature_pass.check(protocol, extractors)


class _Images:
  """The images of a folder, zip or prepared set.

  Attributes:
    sizes: Height and width of each image, in order.
    unreadable: A sentence on the first file that is no image, or "".
  """

  def __init__(
    self,
    source: Source,
    path: str,
    prepared: prepared_set.PreparedSet | None = None,
  ):
    """Look at all images' sizes, unless they are of a prepared set."""
    self.path = path
    self._prepared = prepared
    self.unreadable = ""
    self._source = source
    self._hashes: dict[int, bytes] = {}
    count = len(source.names)
    if prepared:
      looked = [prepared.metadata.size] * count
    else:
      with concurrent.futures.ThreadPoolExecutor() as pool:
        looked = list(pool.map(self._size_of, range(count)))
    self._numbers = [i for i in range(count) if looked[i]]
    self.sizes = [looked[i] for i in self._numbers]
    if len(self) < 2:
      raise ValueError(self.unreadable or f"{path} has {len(self)} image(s)")

  def __len__(self) -> int:
    return len(self._numbers)

  def only_size(self) -> Size:
    """Return the height and width of all images, or refuse several."""
    if self.unreadable:
      raise ValueError(self.unreadable)
    counts = collections.Counter(self.sizes)
    if len(counts) > 1:
      some = ", ".join(
        f"{w}x{h} ({n:,})" for (h, w), n in counts.most_common(3)
      )
      raise ValueError(
        f"{self.path} has images of {len(counts)} sizes, {some}; name a folder "
        "with images of one size"
      )
    return self.sizes[0]

  def _size_of(self, number: int) -> Size | None:
    """Return an image's size after EXIF rotation; None of what is not one."""
    try:
      width, height = upright_size(self._source.load(number)[0])
    except SheetError:
      return None
    except Exception as error:  # Pillow raises many types for damaged files
      self.unreadable = self.unreadable or self._complaint(number, error)
      return None
    return height, width

  def _complaint(self, number: int, error: Exception) -> str:
    name = printable_name(self._source.names[number])
    return f"{self.path}: {name} cannot be read: {reason_of(error)}"

  def read(self, index: int) -> np.ndarray:
    """Read an image: uint8 (H, W, 3), transparency over white."""
    number = self._numbers[index]
    try:
      image = self._source.load(number)[0]
      width, height = upright_size(image)
      pixels = fit(image, (height, width), 3, "center")
    except Exception as error:
      raise ValueError(self._complaint(number, error)) from error
    self._hashes[index] = hashlib.sha256(pixels.tobytes()).digest()
    return pixels

  def as_reals(self) -> Reals:
    """Return them as reals; a prepared set of RGB keeps their statistics."""
    if self._prepared and self._prepared.metadata.channels == 3:
      return Reals.of(self._prepared)
    return Reals(self.read, len(self))

  @property
  def content_hash(self) -> str:
    """SHA-256 over those of the images that were read, in order."""
    hashes = [self._hashes[index] for index in sorted(self._hashes)]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _open(path: str, stack: contextlib.ExitStack) -> _Images:
  if not Path(path).exists():
    raise ValueError(f"{path} does not exist")
  if prepared_set.is_prepared(Path(path)):
    images = prepared_set.open_prepared(path)
    return _Images(_prepared_source(images), path, images)
  dataset = types.SimpleNamespace(path=path)
  opened = folder.open_folder(dataset, resolution=0)
  return _Images(stack.enter_context(opened), path)


def _open_reals(
  path: str, fakes: _Images, data_dir: str, stack: contextlib.ExitStack
) -> _Images:
  """Open reals that can be compared with fakes of one size."""
  size = fakes.only_size()
  height, width = size
  images = _open(path, stack)
  if set(images.sizes) == {size} and not images.unreadable:
    return images
  sizes = f"{fakes.path} has images of {width}x{height}"
  if prepared_set.is_prepared(Path(path)):
    tall, wide = images.only_size()
    factor = tall // height
    if (tall, wide) != (factor * height, factor * width) or (
      factor.bit_count() != 1
    ):
      raise ValueError(
        f"{sizes}, {path} of {wide}x{tall}, which is no larger scale of that; "
        "compare images of one size"
      )
    return images
  if not any(h >= height and w >= width for h, w in images.sizes):
    raise ValueError(f"{sizes}, and {path} none that is as large")
  try:
    resolution, grid = base_grid.of_size(height, width)
  except ValueError as error:
    raise ValueError(
      f"{sizes}, {path} others: {error}; make all of one size"
    ) from error
  dataset = dataset_of(path, split="", crop="center")
  dataset.data_dir = data_dir
  prepared = data.prepare(dataset, resolution, 3, base_grid=grid)
  return _open(str(prepared), stack)


def _prepared_source(images: prepared_set.PreparedSet) -> Source:
  def load(index: int) -> tuple[Image.Image, int]:
    record = images[index]
    return to_image(record["image"]), int(record["label"])

  return Source([f"image {i}" for i in range(len(images))], load)
