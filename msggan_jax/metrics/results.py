"""Numbers by name from statistics, and their provenance."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

from msggan_jax.metrics import distances
from msggan_jax.metrics.distances import Moments, Rows
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.feature_pass import Request, Statistics
from msggan_jax.metrics.protocols import Protocol

_SUBSET_SIZE = 1000  # of KID's subsets
_FEWEST_FAKES = 10  # the inception score's splits

# Kind of metric -> statistics of the features.
_STATISTICS = {
  "fid": Moments,
  "fd": Moments,
  "kid": Rows,
  "is": Rows,
  "pr": Rows,
  "copying": Rows,
}
_PACKAGES = ("msggan-jax", "jax", "numpy")


def check(protocol: Protocol, extractors: Extractors) -> None:
  """Check that a protocol is possible, loading its extractor.

  Raises:
    ValueError: If the extractor lacks the features.
    FileNotFoundError: If the extractor's weights are missing.
  """
  extractor = extractors[protocol.extractor]
  if protocol.kind == "is" and extractor.logits is None:
    raise ValueError(f"{protocol.name}: {protocol.extractor} has no logits")
  if (protocol.num_fakes or _FEWEST_FAKES) < _FEWEST_FAKES:
    raise ValueError(f"{protocol.name}: ask for {_FEWEST_FAKES} fakes or more")


def request(
  protocol: Protocol, extractors: Extractors, resolution: int, count: int
) -> Request:
  """Return a protocol's request for a pass over reals or fakes.

  Args:
    protocol: The protocol.
    extractors: The feature networks.
    resolution: Side of the images if the protocol names none.
    count: Number of images.
  """
  extractor = extractors[protocol.extractor]
  feature = extractor.logits if protocol.kind == "is" else extractor.pooled
  return Request(
    extractor=protocol.extractor,
    feature=feature,
    resolution=protocol.resolution or resolution,
    statistics=Rows if protocol.per_class else _STATISTICS[protocol.kind],
    count=count,
  )


def complete(protocol: Protocol, reals: Statistics) -> bool:
  """Compute the part of a protocol's distance that depends on reals only.

  Args:
    protocol: The protocol.
    reals: Statistics of the reals, which keep the result.

  Returns:
    Whether it was missing.
  """
  if protocol.per_class:
    return False
  if protocol.kind in ("fid", "fd"):
    return reals.complete_root()
  if protocol.kind == "kid":
    return reals.complete_kernel()
  return False


def compute(
  protocol: Protocol, reals: Statistics | None, fakes: Statistics
) -> dict[str, float]:
  """Compute a protocol's numbers.

  Args:
    protocol: The protocol.
    reals: Statistics of the reals; None for the inception score.
    fakes: Statistics of the fakes.

  Returns:
    Numbers by name: the protocol's own, or two with suffixes for precision and
    recall; with the inception score and KID of many images also the spread
    over the parts.
  """
  name = protocol.name
  if protocol.kind in ("fid", "fd"):
    return {name: distances.frechet_distance(reals, fakes)}
  if protocol.kind == "is":
    mean, std = distances.inception_score(fakes.array)
    return {name: mean, f"{name}_std": std}
  if protocol.kind == "pr":
    precision, recall = distances.precision_recall(reals.array, fakes.array)
    return {f"{name}_precision": precision, f"{name}_recall": recall}
  assert protocol.kind == "kid", protocol.kind
  values = {name: distances.kernel_distance(reals, fakes)}
  if min(len(reals.array), len(fakes.array)) > _SUBSET_SIZE:
    mean, error = distances.kernel_distance_of_subsets(
      reals.array, fakes.array, subset_size=_SUBSET_SIZE
    )
    values |= {f"{name}_subsets": mean, f"{name}_subsets_error": error}
  return values


def provenance(
  protocols: Sequence[Protocol], extractors: Extractors
) -> dict[str, Any]:
  """Return the provenance of numbers: protocols, weights and versions."""
  used = dict.fromkeys(protocol.extractor for protocol in protocols)
  return {
    "weights_hash": {name: extractors[name].weights_hash for name in used},
    "protocols": {p.name: p.describe() for p in protocols},
    "versions": {
      package: importlib.metadata.version(package) for package in _PACKAGES
    },
  }
