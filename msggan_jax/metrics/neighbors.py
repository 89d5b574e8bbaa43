"""Nearest neighbours in feature space."""

import numpy as np

from msggan_jax.metrics.distances import blocks, squared_distances


def nearest(
  queries: np.ndarray, features: np.ndarray, neighbors: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Find each query's nearest features.

  Args:
    queries: (N, D).
    features: (M, D), M >= `neighbors`.
    neighbors: Number of features to find for each query.

  Returns:
    Euclidean distances, ascending, and indices of the features, each (N,
    `neighbors`).

  Raises:
    ValueError: If there are fewer features.
  """
  if not 0 < neighbors <= len(features):
    raise ValueError(
      f"{neighbors} nearest images are asked for; there are {len(features)}"
    )
  distances, indices = [], []
  for x in blocks(queries):
    found = np.empty((len(x), 0))
    places = np.empty((len(x), 0), np.int64)
    first = 0
    for y in blocks(features):
      here = np.broadcast_to(np.arange(first, first + len(y)), (len(x), len(y)))
      found = np.concatenate([found, squared_distances(x, y)], axis=1)
      places = np.concatenate([places, here], axis=1)
      order = np.argsort(found, axis=1, kind="stable")[:, :neighbors]
      found = np.take_along_axis(found, order, axis=1)
      places = np.take_along_axis(places, order, axis=1)
      first += len(y)
    distances.append(np.sqrt(found))
    indices.append(places)
  return np.concatenate(distances), np.concatenate(indices)
