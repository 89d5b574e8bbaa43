"""Metrics of a run that need labels or a hold-out."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from msggan_jax import data
from msggan_jax.data import pictures
from msggan_jax.metrics import copying, results
from msggan_jax.metrics.distances import Moments, Rows
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.feature_pass import ImagesAt, Statistics
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Reals

_FEWEST = 10  # reals and fakes of a class; rarer classes are skipped
_HAVE_TEST = ("cats", "earth")  # of the demo


class RunMetrics:
  """Computes `copying` and metrics per class."""

  def __init__(
    self,
    config: ConfigDict,
    prepared: data.PreparedSet,
    reals: Reals,
    extractors: Extractors,
    batch_size: int,
  ):
    """Bind a run's configuration and its real images.

    Args:
      config: The run's configuration.
      prepared: Its real images.
      reals: Draws them.
      extractors: The feature networks.
      batch_size: Images in a batch of this process.
    """
    self._config = config
    self._prepared = prepared
    self._reals = reals
    self._extractors = extractors
    self._batch_size = batch_size
    self._pairs: dict[Protocol, copying.Copying] = {}
    self._own_reals: dict[Protocol, Rows] = {}

  def check(self, protocol: Protocol) -> None:
    """Raise ValueError, in one sentence, if a protocol does not fit the run."""
    name, metadata = protocol.name, self._prepared.metadata
    if protocol.kind == "copying" and not (metadata.part or self._has_test()):
      raise ValueError(
        f"{name}: the data set has no hold-out; set config.dataset.holdout, "
        "such as 0.1, in a new run"
      )
    if protocol.per_class and not self._config.num_classes:
      raise ValueError(
        f"{name}: the generator is unconditional: config.num_classes is 0"
      )

  def read(
    self, protocols: Sequence[Protocol], after_batch: Callable[[], None]
  ) -> None:
    """Compute the features of other reals once; a call of all processes.

    Args:
      protocols: The protocols; those that need no other reals are skipped.
      after_batch: Called after each batch; may raise to end the pass.
    """
    for protocol in protocols:
      if protocol.kind == "copying" and protocol not in self._own_reals:
        self._own_reals[protocol] = self._read_holdout(protocol, after_batch)

  def compute(
    self,
    protocol: Protocol,
    reals: Statistics | None,
    fakes: Rows,
    labels: np.ndarray | None,
  ) -> dict[str, float] | None:
    """Compute a protocol's numbers; None if it is none of this class.

    Args:
      protocol: The protocol.
      reals: Features of the reals.
      fakes: Features of the fakes.
      labels: The fakes' labels, if the generator is conditional.
    """
    if protocol.per_class:
      return self._per_class(protocol, reals, fakes, labels)
    if protocol.kind == "copying":
      holdout = self._own_reals[protocol].array
      found = copying.measure(reals.array, holdout, fakes.array)
      self._pairs[protocol] = found
      return {protocol.name: found.share, f"{protocol.name}_z": found.z}
    return None

  def sheets(self, fakes_at: ImagesAt) -> dict[str, np.ndarray]:
    """Return a picture of the closest pairs for each `copying` just computed.

    Args:
      fakes_at: Returns the fakes, a batch at a time.

    Returns:
      uint8 pictures by protocol: fakes above, training images below.
    """
    drawn = {}
    for protocol, found in self._pairs.items():
      count = len(found.fakes)
      batches = [
        fakes_at(np.resize(found.fakes[i:], self._batch_size))
        for i in range(0, count, self._batch_size)
      ]
      side = max(batches[0])
      fakes = np.concatenate([np.asarray(batch[side]) for batch in batches])
      fakes = fakes[:count]
      reals = [self._prepared[int(i)]["image"] for i in found.reals]
      reals = pictures.resized(np.stack(reals), fakes.shape[1])
      both = np.concatenate([fakes, reals])
      drawn[protocol.name] = pictures.grid(both, columns=count)
    self._pairs = {}
    return drawn

  def _per_class(
    self, protocol: Protocol, reals: Rows, fakes: Rows, labels: np.ndarray
  ) -> dict[str, float]:
    drawn, _ = self._reals.draw(protocol.draws, protocol.num_fakes)
    real_labels = self._labels(drawn)
    labels = labels[: len(fakes.array)]
    kind = dataclasses.replace(protocol, per_class=False)
    by_class = {}
    for label, name in enumerate(self._prepared.metadata.class_names):
      parts = [
        rows.array[own == label]
        for rows, own in ((reals, real_labels), (fakes, labels))
      ]
      if min(map(len, parts)) >= _FEWEST:
        by_class[name] = results.compute(
          kind, *(_statistics(kind, part) for part in parts)
        )
    keys = dict.fromkeys(key for values in by_class.values() for key in values)
    means = {
      key: float(np.mean([v[key] for v in by_class.values() if key in v]))
      for key in keys
    }
    return means | {
      f"{key}/{name}": value
      for name, values in by_class.items()
      for key, value in values.items()
    }

  def _labels(self, numbers: Sequence[int]) -> np.ndarray:
    with concurrent.futures.ThreadPoolExecutor() as pool:
      images = pool.map(lambda i: self._prepared[int(i)], numbers)
      return np.array([image["label"] for image in images], np.int32)

  def _read_holdout(
    self, protocol: Protocol, after_batch: Callable[[], None]
  ) -> Rows:
    holdout = self._open_holdout()
    reals = Reals(
      lambda i: holdout[i]["image"],
      len(holdout),
      content_hash=holdout.metadata.content_hash,
      cache=holdout.path / "statistics",
    )
    # Beyond as many as fakes or training images, more show a copy no better.
    most = max(protocol.num_fakes or 0, len(self._prepared))
    some = dataclasses.replace(protocol, draws="", num_fakes=most)
    statistics = reals.statistics(
      [some],
      self._extractors,
      self._config.resolution,
      batch_size=self._batch_size,
      after_batch=after_batch,
    )
    return statistics[some]

  def _has_test(self) -> bool:
    """Return whether the training set is the demo's, which has a test split."""
    dataset = self._config.dataset
    return dataset.name in _HAVE_TEST and dataset.split == "train"

  def _open_holdout(self) -> data.PreparedSet:
    if self._prepared.metadata.part:
      return data.open_prepared(self._prepared.path, "holdout")
    dataset = ConfigDict(self._config.dataset)
    dataset.split = "test"
    return data.open_prepared(data.prepare_for(self._config, dataset))


def _statistics(protocol: Protocol, features: np.ndarray) -> Statistics:
  """Return the statistics of features that a protocol needs."""
  made = Rows(features.shape[1])
  if protocol.kind in ("fid", "fd"):
    made = Moments(features.shape[1])
  made.add(features)
  return made
