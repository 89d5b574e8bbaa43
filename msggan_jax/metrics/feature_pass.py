"""From images to numbers: features in one pass, their statistics, distances.

All processes share a pass: each computes its part of every global batch, and
all receive the features of the whole batch.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from msggan_jax.data import pictures
from msggan_jax.metrics import distances, value_statistics
from msggan_jax.metrics.distances import Moments, Rows
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.frozen_network import Features, Images
from msggan_jax.metrics.protocols import VALUES, Protocol
from msggan_jax.metrics.value_statistics import Halves
from msggan_jax.runtime import processes, progress
from msggan_jax.runtime.machine import map_in_order

_SUBSET_SIZE = 1000  # of KID's subsets
_SEED = 0  # of samples and halves
_FEWEST_FAKES = 10  # the inception score's splits
_FEW = 10_000  # features that are kept where moments would do

# Indices of images -> uint8 images (N, r, r, C), by resolution.
ImagesAt = Callable[[np.ndarray], dict[int, Images]]
Statistics = Moments | Rows | Halves


@dataclasses.dataclass(frozen=True)
class Request:
  """A request for statistics from a pass."""

  extractor: str
  feature: str  # of the extractor's
  resolution: int  # side of the images
  statistics: type[Statistics]
  count: int  # of images, from the first

  def empty(self) -> Statistics:
    """Return statistics to which the features are added."""
    if self.statistics is Halves:
      return Halves(_shuffled(np.arange(self.count)))
    return self.statistics()


def check(protocol: Protocol, extractors: Extractors) -> None:
  """Refuse an impossible protocol; load its extractor."""
  extractor = extractors[protocol.extractor]
  if protocol.kind == "is" and extractor.logits is None:
    raise ValueError(f"{protocol.name}: {protocol.extractor} has no logits")
  if (protocol.num_fakes or _FEWEST_FAKES) < _FEWEST_FAKES:
    raise ValueError(f"{protocol.name}: ask for {_FEWEST_FAKES} fakes or more")


def check_channels(protocol: Protocol, channels: int, bands: str) -> None:
  """Refuse what values of so many channels do not have; 0: pictures."""
  if protocol.kind == value_statistics.CORRELATION and channels == 1:
    raise ValueError(f"{protocol.name} needs two channels or more")
  sees_bands = protocol.kind != "copying" and protocol.extractor != VALUES
  if sees_bands and channels not in (0, 1, 3) and not bands:
    raise ValueError(
      f"{protocol.name}: the feature network sees 1 or 3 of the {channels} "
      "channels; choose them in --bands=3,2,1 (config.bands), or the metrics "
      "spectrum, histogram and correlation"
    )


@dataclasses.dataclass
class Passes:
  """How an evaluation looks at images."""

  extractors: Extractors
  resolution: int  # of the images, where a protocol names no scale
  batch_size: int  # of this process
  has_bar: bool = False
  after_batch: Callable[[], None] = lambda: None  # may raise to end a pass
  # Of values, as for `pictures.view`; None: the images are pictures.
  bands: tuple[int, ...] | None = None

  def request(self, protocol: Protocol, count: int) -> Request:
    """Return a protocol's request for a pass over `count` reals or fakes."""
    extractor = self.extractors[protocol.extractor]
    statistics = Rows
    if protocol.needs_moments and count > _FEW:
      statistics = Moments
    elif protocol.extractor == VALUES:
      statistics = Halves  # up to 1,024 numbers a channel
    feature = extractor.logits if protocol.kind == "is" else extractor.pooled
    return Request(
      extractor=protocol.extractor,
      feature=protocol.kind if protocol.extractor == VALUES else feature,
      resolution=protocol.resolution or self.resolution,
      statistics=statistics,
      count=count,
    )

  def measure(
    self, images_at: ImagesAt, requests: Iterable[Request], title: str = ""
  ) -> dict[Request, Statistics]:
    """Compute all requests, one or more, in one pass over the images.

    `images_at` is called from another thread, in order, always for `batch_size`
    images, so that only one shape is compiled. `title` is that of the bar.
    """
    requests = list(dict.fromkeys(requests))
    total = max(request.count for request in requests)
    global_batch = self.batch_size * jax.process_count()
    starts = range(0, total, global_batch)
    first = jax.process_index() * self.batch_size
    # The last image fills the last batch.
    numbers = [
      np.minimum(start + first + np.arange(self.batch_size), total - 1)
      for start in starts
    ]
    results = {request: request.empty() for request in requests}
    with progress.bar(total, title if self.has_bar else "", "images") as bar:
      ahead = map_in_order(images_at, numbers, threads=1, ahead=1)
      for start in starts:
        with processes.raising_together():  # an image may be unreadable
          images = next(ahead)
        features = self._extract(images, requests)
        for request in requests:
          rows = features[request.extractor, request.resolution]
          if start < request.count:
            here = rows[request.feature][: request.count - start]
            results[request].add(here)
        bar.update(min(global_batch, total - start))
        self.after_batch()
    return results

  def _extract(
    self, images: dict[int, Images], requests: Sequence[Request]
  ) -> dict[tuple[str, int], Features]:
    """Return the features of the global batch, by extractor and resolution."""
    pairs = dict.fromkeys((r.extractor, r.resolution) for r in requests)
    features = {}
    for name, resolution in pairs:
      some = images[resolution]
      if self.bands is not None and name != VALUES:
        levels = pictures.to_levels(np.asarray(some))
        some = pictures.view(levels, self.bands, colors=False)
      features[name, resolution] = self.extractors[name].features(some)
    if jax.process_count() == 1:
      return features
    return multihost_utils.process_allgather(features, tiled=True)


def compute(
  protocol: Protocol, reals: Statistics | None, fakes: Statistics
) -> dict[str, float]:
  """Compute a protocol's numbers by name; the inception score needs no reals.

  Precision and recall have suffixes; the inception score and KID of many images
  also have the spread over the parts; KID has its standard error.
  """
  name = protocol.name
  if protocol.extractor == VALUES:
    a, b = reals.array, fakes.array
    return value_statistics.distance(protocol.kind, name, a, b)
  if protocol.is_frechet:
    return {name: distances.frechet_distance(reals, fakes)}
  if protocol.kind == "is":
    mean, std = distances.inception_score(fakes.array)
    return {name: mean, f"{name}_std": std}
  if protocol.kind == "pr":
    precision, recall = distances.precision_recall(reals.array, fakes.array)
    return {f"{name}_precision": precision, f"{name}_recall": recall}
  assert protocol.kind == "kid", protocol.kind
  values = {name: distances.kernel_distance(reals, fakes)}
  fewer = min(len(reals.array), len(fakes.array))
  if fewer > _SUBSET_SIZE:
    mean, error = distances.kernel_distance_of_subsets(
      reals.array, fakes.array, subset_size=_SUBSET_SIZE
    )
    values |= {f"{name}_subsets": mean, f"{name}_subsets_error": error}
  if fewer > 2:
    # More images of the other set hardly change it.
    some = [_shuffled(x.array, _SUBSET_SIZE) for x in (reals, fakes)]
    error = distances.kernel_distance_error(*some)
    values[f"{name}_error"] = error * min(1, _SUBSET_SIZE / fewer) ** 0.5
  return values


def floor(protocol: Protocol, reals: Rows | Halves) -> dict[str, float]:
  """Return the distance of two halves of the reals by name.

  It is what a perfect generator may have: zero is out of reach of few images.
  """
  if reals.shape[0] < 4:
    return {}
  if isinstance(reals, Halves):
    halves = reals.halves()
  else:
    halves = map(Rows, np.array_split(_shuffled(reals.array), 2))
  values = compute(protocol, *halves)
  return {f"{protocol.name}_floor": values[protocol.name]}


def _shuffled(features: np.ndarray, most: int | None = None) -> np.ndarray:
  order = np.random.RandomState(_SEED).permutation(len(features))
  return features[order[:most]]
