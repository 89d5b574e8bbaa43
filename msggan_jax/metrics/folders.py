"""Images of folders, zips and prepared sets that are compared."""

import collections
import concurrent.futures
import contextlib
import hashlib
import types
from pathlib import Path

import numpy as np
from PIL import Image

from msggan_jax import data
from msggan_jax.data import prepared_set
from msggan_jax.data.pixels import SheetError, fit, to_image, upright_size
from msggan_jax.data.reading import printable_name, reason_of
from msggan_jax.data.sources import Source, dataset_of, folder
from msggan_jax.metrics.reals import Reals
from msggan_jax.models import base_grid

Size = tuple[int, int]  # height and width


class Images:
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


def open_images(path: str, stack: contextlib.ExitStack) -> Images:
  if not Path(path).exists():
    raise ValueError(f"{path} does not exist")
  if prepared_set.is_prepared(Path(path)):
    images = prepared_set.open_prepared(path)
    return Images(_prepared_source(images), path, images)
  dataset = types.SimpleNamespace(path=path)
  opened = folder.open_folder(dataset, resolution=0)
  return Images(stack.enter_context(opened), path)


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
  dataset = dataset_of(path, split="", crop="center")
  dataset.data_dir = data_dir
  prepared = data.prepare(dataset, resolution, 3, base_grid=grid)
  return open_images(str(prepared), stack)


def _prepared_source(images: prepared_set.PreparedSet) -> Source:
  def load(index: int) -> tuple[Image.Image, int]:
    record = images[index]
    return to_image(record["image"]), int(record["label"])

  return Source([f"image {i}" for i in range(len(images))], load)
