"""Statistics of the real images, cached by everything they depend on."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from msggan_jax import kernels
from msggan_jax.data import PreparedSet, pictures
from msggan_jax.kernels import plain
from msggan_jax.metrics import (
  efficientnet,
  feature_pass,
  frozen_network,
  inception,
  value_statistics,
)
from msggan_jax.metrics.feature_pass import (
  ImagesAt,
  Passes,
  Request,
  Rows,
  Statistics,
)
from msggan_jax.metrics.frozen_network import Images, on_local_devices
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.models import pyramid
from msggan_jax.runtime import processes
from msggan_jax.runtime.files import replacing

_SEED = 0  # of the draws: the same reals for every run and step

ReadImage = Callable[[int], np.ndarray]  # number -> as stored, (H, W, C)


class Draw(NamedTuple):
  """A choice of real images, in order."""

  numbers: np.ndarray  # the images' indices, (N,)
  flips: np.ndarray  # whether each is mirrored, (N,)

  @classmethod
  def shuffled(cls, count: int, shuffle: bool = True) -> "Draw":
    """Return all images, not mirrored, whose first ones are then a sample."""
    numbers = np.random.RandomState(_SEED).permutation(count)
    numbers = numbers if shuffle else np.arange(count)
    return cls(numbers, np.zeros(count, bool))

  def digest(self) -> str:
    """Return the SHA-256 of the choice."""
    choice = self.numbers.astype("<i8").tobytes() + self.flips.tobytes()
    return hashlib.sha256(choice).hexdigest()


@dataclasses.dataclass
class Reals:
  """The real images, drawn by a protocol's rule."""

  read: ReadImage  # called from several threads
  num_images: int
  mirror: bool = False  # whether training mirrors them at random
  content_hash: str = ""  # identifies them in the cache
  cache: Path | None = None  # folder for statistics; None: no cache

  @classmethod
  def of(cls, prepared: PreparedSet, mirror: bool = False) -> "Reals":
    """Return the images of a prepared set, which keeps their statistics."""
    cache = prepared.path / "statistics"
    return cls(
      lambda i: prepared[i]["image"],
      len(prepared),
      mirror,
      prepared.metadata.content_hash,
      # Somebody else's run may name the set: nothing is written outside of it.
      None if cache.is_symlink() else cache,
    )

  def draw(self, draws: str, count: int | None, twice: bool = False) -> Draw:
    """Choose reals, always the same, by `Protocol.draws` and `num_fakes`.

    With `twice` a mirrored one follows each, if training mirrors.
    """
    n = self.num_images
    if draws in ("full", ""):
      some = count if draws == "" and count else n
      numbers, flips = (x[:some] for x in Draw.shuffled(n, some < n))
      if twice and self.mirror:
        return Draw(np.repeat(numbers, 2), np.tile([False, True], len(numbers)))
      return Draw(numbers, flips)
    random = np.random.RandomState(_SEED)
    epochs = [random.permutation(n) for _ in range(-(-count // n))]
    flips = random.rand(count) < 0.5 if self.mirror else np.zeros(count, bool)
    return Draw(np.concatenate(epochs)[:count], flips)

  def statistics(
    self, protocols: Sequence[Protocol], passes: Passes, title: str = "reals"
  ) -> dict[Protocol, Statistics]:
    """Return statistics by protocol, but for `is`, from the cache if possible.

    `title` is that of the progress bar.
    """
    # Protocols with equal draws share a pass.
    drawn: dict[str, tuple[Draw, list[Protocol]]] = {}
    for protocol in protocols:
      if protocol.kind != "is":
        twice = protocol.kind == "copying"
        draw = self.draw(protocol.draws, protocol.num_fakes, twice)
        drawn.setdefault(draw.digest(), (draw, []))[1].append(protocol)
    found = {}
    for draw, group in drawn.values():
      requests = {p: passes.request(p, len(draw.numbers)) for p in group}
      statistics = self._of_draw(draw, [*requests.values()], passes, title)
      found |= {p: statistics[request] for p, request in requests.items()}
    return found

  def features(
    self, extractor: str, passes: Passes, count: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Return a sample of `count` images, 0: all: indices, pooled features."""
    draw = self.draw("", count)
    pooled, size = passes.extractors[extractor].pooled, len(draw.numbers)
    request = Request(extractor, pooled, passes.resolution, Rows, size)
    found = self._of_draw(draw, [request], passes, "reals")
    return draw.numbers, found[request].array

  def _of_draw(
    self, draw: Draw, requests: Sequence[Request], passes: Passes, title: str
  ) -> dict[Request, Statistics]:
    paths = {r: self._path(r, draw, passes) for r in requests}
    loaded = {request: _load(path, request) for request, path in paths.items()}
    # Recomputed if any process lacks it: a pass needs all processes.
    have = processes.from_all([x is not None for x in loaded.values()])
    missing = [r for r, *has in zip(loaded, *have, strict=True) if not all(has)]
    if not missing:
      return loaded
    images_at = read_images(self.read, {r.resolution for r in missing}, draw)
    measured = passes.measure(images_at, missing, title)
    for request, statistics in measured.items():
      _save(paths[request], statistics)
    return loaded | measured

  def _path(self, request: Request, draw: Draw, passes: Passes) -> Path | None:
    weights_hash = passes.extractors[request.extractor].weights_hash
    if not self.cache or not weights_hash:
      return None
    key = {
      "content": self.content_hash,
      "weights": weights_hash,
      "feature": request.feature,
      "resolution": request.resolution,
      "statistics": request.statistics.__name__,
      "draw": draw.digest(),
      "code": code_hash(),
    }
    if passes.bands:
      key["bands"] = passes.bands
    text = json.dumps(key, sort_keys=True)
    return self.cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def code_hash() -> str:
  """Return the SHA-256 of the code between a set's images and features.

  Extractors of a user identify their code by their `weights_hash`.
  """
  modules = (pyramid, kernels, plain, pictures, feature_pass, frozen_network)
  modules += (inception, efficientnet, value_statistics)
  state = hashlib.sha256()
  for file in (__file__, *(module.__file__ for module in modules)):
    state.update(Path(file).read_bytes())
  return state.hexdigest()


def read_images(read: ReadImage, resolutions: set[int], draw: Draw) -> ImagesAt:
  """Return a function that reads the drawn images at some of their scales."""

  def read_one(i: int) -> np.ndarray:
    image = read(int(draw.numbers[i]))
    return image[:, ::-1] if draw.flips[i] else image

  def images_at(places: np.ndarray) -> dict[int, Images]:
    # One pool a batch, so that no thread outlives the pass.
    with concurrent.futures.ThreadPoolExecutor() as pool:
      batch = np.stack(list(pool.map(read_one, places)))
    batch = on_local_devices(batch)
    return {r: _at_scale(batch, r) for r in resolutions}

  return images_at


def _at_scale(batch: Images, resolution: int) -> Images:
  """Average squares of pixels like the real pyramid of training.

  Pictures stay uint8, values become floats in [-1, 1].
  """
  factor = pyramid.resolution_of(batch) // resolution
  are_pictures = batch.dtype == np.uint8
  if factor == 1 and are_pictures:
    return batch
  images = pyramid.to_float(batch)
  if factor > 1:
    images = pyramid.downsample(images, factor)
  return pyramid.quantize(images) if are_pictures else images


def _load(path: Path | None, request: Request) -> Statistics | None:
  """Read statistics; None if the cache lacks them or is of no use."""
  if path is None:
    return None
  try:
    with path.open("rb") as file, np.load(file) as arrays:
      return request.statistics(**arrays)
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
    return None


def _save(path: Path | None, statistics: Statistics) -> None:
  """Write statistics; a cache that cannot be written to changes nothing."""
  if path is None:
    return
  with contextlib.suppress(OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may write the same file.
    with replacing(path) as temporary, temporary.open("wb") as file:
      np.savez(file, **statistics.arrays())
