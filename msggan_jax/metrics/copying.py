"""Does a generator copy its training images? Distances in feature space.

Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in
Generative Models" (arXiv 2004.05675): fakes that are nearer to the training
images T than unseen images P are, copy them.
"""

import math
from typing import NamedTuple

import numpy as np

from msggan_jax.metrics.distances import nearest

_SEED = 0
_MOST_CELLS = 10
_IMAGES_PER_CELL = 100  # of the hold-out
_FEWEST = 20  # fakes and unseen images in a cell that counts
_ITERATIONS = 20  # of k-means
_PAIRS = 10


class Copying(NamedTuple):
  """How near fakes are to training images."""

  # Of the fakes, those nearer to a training image than to an image of an
  # equally large hold-out; 0.5 without copying, 1 if all are copies.
  share: float
  # The three-sample test in standard deviations, averaged over cells of similar
  # images: about 0 for unseen real images, below -3: copies, above 3: the fakes
  # are farther off than real images.
  z: float
  fakes: np.ndarray  # indices of the nearest to a training image, in order
  reals: np.ndarray  # indices of those training images


def measure(
  train: np.ndarray, holdout: np.ndarray, fakes: np.ndarray
) -> Copying:
  """Compare the distances of fakes with those of unseen images.

  All are features, (N, D): of the training images, of images never trained on,
  and of the fakes.
  """
  size = min(len(train), len(holdout))
  random = np.random.RandomState(_SEED)
  some_train = train[random.permutation(len(train))[:size]]
  some_holdout = holdout[random.permutation(len(holdout))[:size]]
  to_train, _ = nearest(fakes, some_train)
  to_holdout, _ = nearest(fakes, some_holdout)
  nearer = (to_train < to_holdout) + 0.5 * (to_train == to_holdout)
  distances, reals = nearest(fakes, train)
  closest = np.argsort(distances[:, 0], kind="stable")[:_PAIRS]
  return Copying(
    share=float(nearer.mean()),
    z=three_sample_test(train, holdout, fakes),
    fakes=closest,
    reals=reals[closest, 0],
  )


def three_sample_test(
  train: np.ndarray, holdout: np.ndarray, fakes: np.ndarray
) -> float:
  """Return the paper's C_T of T, P and Q: the cells' Z_U, weighted by P."""
  count = min(_MOST_CELLS, max(1, len(holdout) // _IMAGES_PER_CELL))
  centers = _k_means(train, count)
  p_cells, q_cells = (nearest(x, centers)[1][:, 0] for x in (holdout, fakes))
  p_distances, q_distances = (
    nearest(x, train)[0][:, 0] for x in (holdout, fakes)
  )
  total = weights = 0.0
  for cell in range(count):
    p, q = p_distances[p_cells == cell], q_distances[q_cells == cell]
    if min(len(p), len(q)) >= _FEWEST:
      total += len(p) * _z_of_ranks(q, p)
      weights += len(p)
  return total / weights if weights else _z_of_ranks(q_distances, p_distances)


def _z_of_ranks(q: np.ndarray, p: np.ndarray) -> float:
  """Return Z_U of Mann and Whitney: negative if q tends to be below p."""
  both = np.concatenate([q, p])
  _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
  ends = np.cumsum(counts)
  ranks = (ends - (counts - 1) / 2)[place.ravel()]  # equal values share one
  m, n = len(q), len(p)
  u = ranks[:m].sum() - m * (m + 1) / 2
  ties = (counts**3 - counts).sum() / ((m + n) * (m + n - 1))
  variance = m * n / 12 * (m + n + 1 - ties)
  return float((u - m * n / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def _k_means(points: np.ndarray, count: int) -> np.ndarray:
  """Return the centers of k-means, deterministic."""
  random = np.random.RandomState(_SEED)
  centers = points[random.permutation(len(points))[:count]].astype(np.float64)
  for _ in range(_ITERATIONS):
    cells = nearest(points, centers)[1][:, 0]
    sums = np.zeros_like(centers)
    np.add.at(sums, cells, points)
    counts = np.bincount(cells, minlength=count)[:, None]
    moved = np.where(counts > 0, sums / np.maximum(counts, 1), centers)
    if np.array_equal(moved, centers):
      break
    centers = moved
  return centers
