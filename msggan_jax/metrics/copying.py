"""Does a generator copy its training images? Distances in feature space.

Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in
Generative Models" (arXiv 2004.05675): fakes that are nearer to the training
images T than unseen images P are, copy them.
"""

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

  Args:
    train: Features of the views of each training image, (N, V, D): of itself,
      and of its mirror image if training shows that, too.
    holdout: The same of images never trained on, (M, V, D).
    fakes: Features of the fakes, (F, D).
  """
  _, views, dimension = train.shape
  all_train = train.reshape(-1, dimension)
  size = min(len(train), len(holdout))
  random = np.random.RandomState(_SEED)
  to_train, to_holdout = (
    nearest(fakes, x[random.permutation(len(x))[:size]].reshape(-1, dimension))
    for x in (train, holdout)
  )
  equal = 0.5 * (to_train[0] == to_holdout[0])
  nearer = (to_train[0] < to_holdout[0]) + equal
  distances, reals = nearest(fakes, all_train)
  closest = np.argsort(distances[:, 0], kind="stable")[:_PAIRS]
  # Fakes show as many mirrored images as others, so the unseen ones do, too.
  places = np.arange(len(holdout))
  unseen = holdout[places, places % views]
  return Copying(
    share=float(nearer.mean()),
    z=three_sample_test(all_train, unseen, fakes),
    fakes=closest,
    reals=reals[closest, 0] // views,
  )


def three_sample_test(
  train: np.ndarray, holdout: np.ndarray, fakes: np.ndarray
) -> float:
  """Return the paper's C_T of T, P and Q: the cells' Z_U, weighted by P."""
  # Late, so that training starts sooner.
  from scipy.cluster.vq import kmeans2
  from scipy.stats import ranksums

  count = min(_MOST_CELLS, max(1, len(holdout) // _IMAGES_PER_CELL))
  first = np.random.RandomState(_SEED).permutation(len(train))[:count]
  points = train.astype(np.float64)
  centers, _ = kmeans2(points, points[first], iter=_ITERATIONS, minit="matrix")
  p_cells, q_cells = (nearest(x, centers)[1][:, 0] for x in (holdout, fakes))
  p_distances, q_distances = (
    nearest(x, train)[0][:, 0] for x in (holdout, fakes)
  )
  total = weights = 0.0
  for cell in range(count):
    p, q = p_distances[p_cells == cell], q_distances[q_cells == cell]
    if min(len(p), len(q)) >= _FEWEST:
      total += len(p) * ranksums(q, p).statistic
      weights += len(p)
  if not weights:
    total, weights = ranksums(q_distances, p_distances).statistic, 1
  return float(total / weights)
