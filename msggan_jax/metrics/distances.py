"""Distances between sets of features: Frechet, kernel, precision and recall.

NumPy in float64: for similar sets these numbers are small differences of large
ones. Pairs of features are visited in blocks, so that the features themselves
are the largest arrays. On accelerators, the device sums KID's kernel.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels.precision import matmul

_BLOCK = 2048  # rows: 32 MB for a block of pairs


class Moments:
  """Mean and covariance of features that arrive in batches, each (B, D)."""

  def __init__(
    self, *batches: np.ndarray, count=0, sum: Any = 0.0, products: Any = 0.0
  ):
    self._sums = {"count": count, "sum": sum, "products": products}
    # Small batches are collected: an update of the products costs as much for
    # one feature as for many.
    self._waiting = list(batches)

  def add(self, features: np.ndarray) -> None:
    """Add features, (B, D)."""
    self._waiting.append(features)
    if sum(map(len, self._waiting)) >= _BLOCK:
      self._all()

  def _all(self) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of features, their sum and that of their products."""
    if self._waiting:
      for block in _blocks(np.concatenate(self._waiting)):
        self._sums["count"] += len(block)
        self._sums["sum"] += block.sum(axis=0)
        self._sums["products"] += block.T @ block
      self._waiting = []
    return tuple(self._sums.values())

  @property
  def shape(self) -> tuple[int, int]:
    """The number of features and their dimension, (N, D)."""
    count, total, _ = self._all()
    return int(count), len(total)

  @property
  def mean(self) -> np.ndarray:
    """The mean, (D,), float64."""
    count, total, _ = self._all()
    return total / count

  @property
  def covariance(self) -> np.ndarray:
    """The unbiased covariance, (D, D), float64; of two features or more."""
    count, total, products = self._all()
    if count < 2:
      raise ValueError(f"a covariance needs 2 features or more, not {count}")
    return (products - np.outer(total, total / count)) / (count - 1)

  @functools.cached_property
  def root(self) -> np.ndarray:
    """The covariance's square root, (D, D), of all features."""
    values, vectors = np.linalg.eigh(self.covariance)
    # Rounding makes some of the zeros negative.
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

  def factor(self) -> np.ndarray:
    """Return L, (D, D), with L L' the covariance: cheaper than `root`."""
    count, total, _ = self._all()
    if count > len(total):
      try:
        return np.linalg.cholesky(self.covariance)
      except np.linalg.LinAlgError:
        pass  # features that depend on each other
    return self.root

  def arrays(self) -> dict[str, Any]:
    """Return the arguments of the same moments."""
    self._all()
    return self._sums


class Rows:
  """Features that arrive in batches, each (B, D), and are all kept."""

  def __init__(self, rows: np.ndarray | None = None):
    self._parts = [] if rows is None else [rows]

  def add(self, features: np.ndarray) -> None:
    """Add features, (B, D)."""
    self._parts.append(features)

  @property
  def array(self) -> np.ndarray:
    """All features, (N, D)."""
    if len(self._parts) > 1:
      self._parts = [np.concatenate(self._parts)]
    return self._parts[0]

  @property
  def shape(self) -> tuple[int, int]:
    """The number of features and their dimension, (N, D)."""
    return self.array.shape

  @functools.cached_property
  def kernel(self) -> float:
    """Mean kernel of different features (KID), of all that were added."""
    return _mean_kernel_within(self.array)

  @functools.cached_property
  def moments(self) -> Moments:
    """The moments of all features that were added."""
    return Moments(self.array)

  def arrays(self) -> dict[str, Any]:
    """Return the argument of the same features."""
    return {"rows": self.array}


def moments_of(features: np.ndarray | Moments | Rows) -> Moments:
  """Return the moments of features, (N, D)."""
  if isinstance(features, Rows):
    return features.moments
  return features if isinstance(features, Moments) else Moments(features)


def frechet_distance(
  features_a: np.ndarray | Moments | Rows,
  features_b: np.ndarray | Moments | Rows,
) -> float:
  """Compute the Frechet distance of two normal distributions (FID).

  |mu_a - mu_b|^2 + Tr(A + B - 2 (AB)^(1/2)), A and B the covariances. The last
  trace is the sum of the singular values of A^(1/2) L, where L L' = B: no
  square root of an unsymmetric matrix, and no root of a difference that should
  be zero. Features are (N, D), N at least 2, their moments or `Rows`, which
  keep the root of `features_a`.
  """
  a, b = moments_of(features_a), moments_of(features_b)
  difference = a.mean - b.mean
  return float(
    difference @ difference
    + np.trace(a.covariance)
    + np.trace(b.covariance)
    - 2 * np.linalg.svd(a.root @ b.factor(), compute_uv=False).sum()
  )


def kernel_distance(
  features_a: np.ndarray | Rows, features_b: np.ndarray | Rows
) -> float:
  """Compute the kernel distance (KID; Binkowski et al. 2018) of whole sets.

  The unbiased squared maximum mean discrepancy with the kernel
  (x . y / D + 1)^3: around 0, possibly negative, for sets of one distribution.
  Features are (N, D), N at least 2, or `Rows` of them.
  """
  both = features_a, features_b
  a, b = (x if isinstance(x, Rows) else Rows(x) for x in both)
  return float(a.kernel + b.kernel - 2 * _mean_kernel(a.array, b.array))


def kernel_distance_of_subsets(
  features_a: np.ndarray,
  features_b: np.ndarray,
  *,
  subset_size: int = 1000,
  num_subsets: int = 100,
  seed: int = 2020,
) -> tuple[float, float]:
  """Average the kernel distance over random subsets, the common form of KID.

  Returns the mean, and its standard error as an estimate of `kernel_distance`
  of the same features: how much the choice of subsets matters, nothing more.
  """
  smaller = min(len(features_a), len(features_b))
  if subset_size > smaller:
    raise ValueError(f"subsets of {subset_size} from {smaller} features")
  random = np.random.RandomState(seed)
  distances = []
  for _ in range(num_subsets):
    subsets = [
      features[random.choice(len(features), subset_size, replace=False)]
      for features in (features_a, features_b)
    ]
    distances.append(kernel_distance(*subsets))
  error = np.std(distances) / np.sqrt(num_subsets)
  return float(np.mean(distances)), float(error)


def kernel_distance_error(
  features_a: np.ndarray, features_b: np.ndarray
) -> float:
  """Estimate the standard error of `kernel_distance` by a jackknife.

  Features are (N, D), N at least 3; all pairs are in memory.
  """
  a, b = (np.asarray(x, np.float64) for x in (features_a, features_b))
  between = _kernel(a, b)
  variance = 0.0
  for x, cross in ((a, between.sum(axis=1)), (b, between.sum(axis=0))):
    n, others = len(x), between.size // len(x)
    within = _kernel(x, x)
    rows = within.sum(axis=1) - within.diagonal()
    # The distance without x_i, up to a constant.
    without = -2 * rows / ((n - 1) * (n - 2)) + 2 * cross / ((n - 1) * others)
    variance += (n - 1) * without.var()
  return float(np.sqrt(variance))


def precision_recall(
  reals: np.ndarray, fakes: np.ndarray, neighbors: int = 3
) -> tuple[float, float]:
  """Compute improved precision and recall (Kynkaanniemi et al. 2019).

  A set of features, (N, D), covers the balls around them that reach to their
  k-th nearest neighbors. Precision is the fraction of the fakes that the reals
  cover, recall the fraction of the reals that the fakes cover.
  """
  return _coverage(reals, fakes, neighbors), _coverage(fakes, reals, neighbors)


def inception_score(
  logits: np.ndarray, splits: int = 10
) -> tuple[float, float]:
  """Compute the inception score (Salimans et al. 2016), in the order given.

  exp of the mean KL divergence of an image's classes from those of its split,
  of logits, (N, classes). Returns mean and standard deviation over the splits.
  """
  if len(logits) < splits:
    raise ValueError(f"{len(logits)} logits are too few for {splits} splits")
  bounds = np.arange(1, splits) * len(logits) // splits
  scores = []
  for part in np.split(np.asarray(logits, np.float64), bounds):
    part = part - part.max(axis=1, keepdims=True)
    log_p = part - np.log(np.exp(part).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    divergence = (p * (log_p - np.log(p.mean(axis=0)))).sum(axis=1)
    scores.append(np.exp(divergence.mean()))
  return float(np.mean(scores)), float(np.std(scores))


def nearest(
  queries: np.ndarray, features: np.ndarray, neighbors: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Find the nearest of features, (M, D), for each query, (N, D).

  Returns Euclidean distances, ascending, and indices, each (N, `neighbors`).
  """
  if not 0 < neighbors <= len(features):
    raise ValueError(
      f"{neighbors} nearest images are asked for; there are {len(features)}"
    )
  _, places = _nearest_squared(queries, features, neighbors)
  # From the differences, so that a copy has the distance 0.
  parts = zip(_blocks(queries), _split(places), strict=True)
  norms = [np.linalg.norm(x[:, None] - features[y], axis=2) for x, y in parts]
  distances = np.concatenate(norms)
  order = np.lexsort((places, distances), axis=1)
  both = distances, places
  return tuple(np.take_along_axis(x, order, axis=1) for x in both)


def _split(array: np.ndarray) -> Iterator[np.ndarray]:
  for start in range(0, len(array), _BLOCK):
    yield array[start : start + _BLOCK]


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
  return (np.asarray(block, np.float64) for block in _split(features))


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Return the kernel of all pairs, (N, D) and (M, D): (N, M)."""
  base = a @ b.T / a.shape[1] + 1
  return base * base * base  # NumPy's power is many times slower


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
  if jax.default_backend() != "cpu":
    return _kernel_sum_on_device(a, b)
  return _kernel(a, b).sum()


def _kernel_sum_on_device(a: np.ndarray, b: np.ndarray) -> float:
  """Sum the kernel where NumPy takes minutes; rows are summed in float64."""
  sums = _excess_of_rows(a.astype(np.float32), b.astype(np.float32))
  return np.asarray(sums, np.float64).sum() + len(a) * len(b)


@jax.jit
def _excess_of_rows(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return sums of (s + 1)^3 - 1 over b, (N,): small numbers stay exact."""
  s = matmul(a, b.T) / a.shape[1]
  return jnp.sum(s * (s * (s + 3) + 3), axis=1)


def _mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
  total = sum(_kernel_sum(x, y) for x in _blocks(a) for y in _blocks(b))
  return total / (len(a) * len(b))


def _mean_kernel_within(features: np.ndarray) -> float:
  """Average the kernel over the pairs of different features."""
  n = len(features)
  if n < 2:
    raise ValueError(f"a kernel distance needs 2 features or more, not {n}")
  total = 0.0
  for i, x in enumerate(_blocks(features)):
    own = ((x**2).sum(axis=1) / x.shape[1] + 1) ** 3  # of pairs (i, i)
    total += _kernel_sum(x, x) - own.sum()
    rest = features[(i + 1) * _BLOCK :]
    total += 2 * sum(_kernel_sum(x, y) for y in _blocks(rest))
  return total / (n * (n - 1))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
  return np.maximum(squares - 2 * a @ b.T, 0)


def _nearest_squared(
  queries: np.ndarray, features: np.ndarray, neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
  """Return the nearest features' squared distances and indices, unsorted."""
  distances, indices = [], []
  for x in _blocks(queries):
    found = np.empty((len(x), 0))
    places = np.empty((len(x), 0), np.int64)
    for i, y in enumerate(_blocks(features)):
      here = i * _BLOCK + np.arange(len(y))
      here = np.broadcast_to(here, (len(x), len(y)))
      found = np.concatenate([found, _squared_distances(x, y)], axis=1)
      places = np.concatenate([places, here], axis=1)
      if found.shape[1] > neighbors:
        near = np.argpartition(found, neighbors - 1, axis=1)[:, :neighbors]
        found = np.take_along_axis(found, near, axis=1)
        places = np.take_along_axis(places, near, axis=1)
    distances.append(found)
    indices.append(places)
  return np.concatenate(distances), np.concatenate(indices)


def _coverage(
  covering: np.ndarray, covered: np.ndarray, neighbors: int
) -> float:
  """Return the fraction of `covered` in the balls around `covering`."""
  if len(covering) <= neighbors:
    raise ValueError(
      f"{len(covering)} features have no {neighbors} neighbors each"
    )
  # The nearest is the feature itself.
  found, _ = _nearest_squared(covering, covering, neighbors + 1)
  radii = found.max(axis=1)
  inside = 0
  for x in _blocks(covered):
    is_inside = np.zeros(len(x), bool)
    for y, radius in zip(_blocks(covering), _split(radii), strict=True):
      is_inside |= (_squared_distances(x, y) <= radius).any(axis=1)
    inside += int(is_inside.sum())
  return inside / len(covered)
