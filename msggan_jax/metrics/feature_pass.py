"""One pass over images: read or generate, extract features, accumulate.

All processes share a pass: each computes its part of every global batch, and
all receive the features of the whole batch.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from msggan_jax.metrics.distances import Moments, Rows
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.frozen_network import Features, Images
from msggan_jax.runtime import progress as progress_bars

# Indices of images -> uint8 images (N, r, r, C), by resolution.
ImagesAt = Callable[[np.ndarray], dict[int, Images]]


Statistics = Moments | Rows


@dataclasses.dataclass(frozen=True)
class Request:
  """A request for statistics from a pass.

  Attributes:
    extractor: Name of the feature network.
    feature: Name of its features.
    resolution: Side of the images.
    statistics: `Moments` or `Rows`.
    count: Number of images, from the first.
  """

  extractor: str
  feature: str
  resolution: int
  statistics: type[Statistics]
  count: int


def measure(
  images_at: ImagesAt,
  requests: Sequence[Request],
  extractors: Extractors,
  *,
  batch_size: int,
  progress: str = "",
  after_batch: Callable[[], None] = lambda: None,
) -> dict[Request, Statistics]:
  """Compute all requests in one pass over the images.

  Args:
    images_at: Returns images; called from another thread, in order, always for
      `batch_size` images, so that only one shape is compiled.
    requests: The requests.
    extractors: The feature networks.
    batch_size: Images in a batch of this process.
    progress: Title of the progress bar; "": none.
    after_batch: Called after each batch; may raise to end the pass.

  Returns:
    The statistics, by request.
  """
  total = max(request.count for request in requests)
  global_batch = batch_size * jax.process_count()
  starts = range(0, total, global_batch)
  first = jax.process_index() * batch_size
  # The last image fills the last batch.
  numbers = [
    np.minimum(start + first + np.arange(batch_size), total - 1)
    for start in starts
  ]
  results: dict[Request, Statistics] = {}
  with progress_bars.bar(total, progress, "images") as bar:
    for start, images in zip(starts, _ahead(images_at, numbers), strict=True):
      features = _extract(images, requests, extractors)
      for request in requests:
        rows = features[request.extractor, request.resolution][request.feature]
        if request not in results:
          results[request] = request.statistics(rows.shape[1])
        if start < request.count:
          results[request].add(rows[: request.count - start])
      bar.update(min(global_batch, total - start))
      after_batch()
  return results


def everywhere(flags: Sequence[bool]) -> list[bool]:
  """Return which flags are true in all processes."""
  if jax.process_count() == 1:
    return list(flags)
  return multihost_utils.process_allgather(np.array(flags)).all(axis=0).tolist()


def _extract(
  images: dict[int, Images],
  requests: Sequence[Request],
  extractors: Extractors,
) -> dict[tuple[str, int], Features]:
  """Return the features of the global batch, by extractor and resolution."""
  wanted = dict.fromkeys((r.extractor, r.resolution) for r in requests)
  return {
    (name, resolution): _from_all_processes(
      extractors[name].features(images[resolution])
    )
    for name, resolution in wanted
  }


def _from_all_processes(features: Features) -> Features:
  if jax.process_count() == 1:
    return features
  return multihost_utils.process_allgather(features, tiled=True)


def _ahead(function: Callable, arguments: Sequence[Any]) -> Iterator[Any]:
  """Map, computing the next value while the last one is used."""
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    pending = thread.submit(function, arguments[0])
    for argument in arguments[1:]:
      value, pending = pending.result(), thread.submit(function, argument)
      yield value
    yield pending.result()
