"""Images of folders, zips and prepared sets that are compared."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from msggan_jax import data
from msggan_jax.data import description, pictures, prepared_set, values
from msggan_jax.data.image_files import SheetError
from msggan_jax.data.pixels import fit, upright_size
from msggan_jax.data.reading import reason_of
from msggan_jax.data.sources import Source, config_of, folder
from msggan_jax.metrics.reals import Reals
from msggan_jax.models import base_grid
from msggan_jax.runtime.errors import counted
from msggan_jax.runtime.machine import map_in_order

Size = tuple[int, int]  # height and width


@dataclasses.dataclass(frozen=True)
class Images:
  """Images that are compared; of a folder some may be unreadable."""

  path: str
  sizes: Sequence[Size]  # of each, in order
  reals: Reals
  content_hash: Callable[[], str]  # of those that were read so far
  unreadable: str = ""  # a sentence on the first such file

  def only_size(self) -> Size:
    """Return the height and width of all images, or refuse several."""
    if self.unreadable:
      raise ValueError(self.unreadable)
    if len({*self.sizes}) > 1:
      raise ValueError(
        f"{self.path} has images of {len({*self.sizes})} sizes; name a folder "
        "with images of one size"
      )
    return self.sizes[0]


def open_images(path: str, stack: contextlib.ExitStack) -> Images:
  """Open a folder, zip or prepared set."""
  if not Path(path).exists():
    raise ValueError(f"{path} does not exist")
  unread = ()
  if prepared_set.is_prepared(Path(path)):
    images = _of_prepared(path)
  else:
    dataset = config_of("", 4, path=path).dataset
    source = stack.enter_context(folder.open_folder(dataset, resolution=0))
    images, unread = _of_source(path, source), source.unread
  count = len(images.sizes)
  if count < 2:
    raise ValueError(
      images.unreadable or description.too_few(path, count, unread)
    )
  return images


def channels_of_values(reals: str, fakes: str) -> int:
  """Return the number of channels of two sets of values; 0: pictures."""
  paths = [Path(path) for path in (reals, fakes)]
  ranges = [
    prepared_set.read_metadata(path).value_range
    if prepared_set.is_prepared(path)
    else None
    for path in paths
  ]
  here, there = ranges
  if here != there and not (here and there and here.agrees(there)):
    a, b = (
      f"{values.describe(x)} ({counted(len(x.low), 'channel')})"
      if x
      else "colors"
      for x in ranges
    )
    raise ValueError(
      f"{reals} holds {a}, {fakes} {b}; prepare both with one "
      "--range=LOW:HIGH, or the same for each channel"
    )
  return len(here.low) if here else 0


def _of_prepared(path: str) -> Images:
  """Open a prepared set.

  One of RGB or of values keeps its statistics, as those of a run.
  """
  images = prepared_set.open_prepared(path)
  count, metadata = len(images), images.metadata
  reals = Reals.of(images)
  if metadata.channels != 3 and not metadata.values:
    reals = Reals(lambda i: pictures.to_rgb(images[i]["image"]), count)
  sizes = [metadata.size] * count
  return Images(path, sizes, reals, lambda: metadata.content_hash)


def _of_source(path: str, source: Source) -> Images:
  """Open a source's images and look at their sizes; skip unreadable ones."""
  complaints: list[str] = []
  hashes: dict[int, bytes] = {}

  def complaint(number: int, error: Exception) -> str:
    name = source.names[number]
    return f"{path}: {name} cannot be read: {reason_of(error)}"

  def size_of(number: int) -> Size | None:
    try:
      width, height = upright_size(source.load(number)[0])
    except SheetError:
      return None
    except Exception as error:  # Pillow raises many types for damaged files
      complaints.append(complaint(number, error))
      return None
    return height, width

  looked = list(map_in_order(size_of, range(len(source.names))))
  numbers = [i for i, size in enumerate(looked) if size]

  def read(index: int) -> np.ndarray:
    """Return RGB of its own size, transparency over white."""
    number = numbers[index]
    try:
      pixels = fit(source.load(number)[0], looked[number], 3, "center")
    except Exception as error:
      raise ValueError(complaint(number, error)) from error
    hashes[index] = hashlib.sha256(pixels.tobytes()).digest()
    return pixels

  def content_hash() -> str:
    digests = (hashes[index] for index in sorted(hashes))
    return hashlib.sha256(b"".join(digests)).hexdigest()

  sizes = [looked[i] for i in numbers]
  reals = Reals(read, len(sizes))
  return Images(path, sizes, reals, content_hash, "".join(complaints[:1]))


def open_reals(
  path: str, fakes: Images, data_dir: str, stack: contextlib.ExitStack
) -> Images:
  """Open reals that can be compared with fakes of one size."""
  size = fakes.only_size()
  height, width = size
  images = open_images(path, stack)
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
  config = config_of(path, resolution, 3, grid, data_dir=data_dir)
  prepared = data.prepare(config)
  for line in data.skipped(prepared):
    logging.warning("%s: %s", path, line)
  return open_images(str(prepared), stack)
