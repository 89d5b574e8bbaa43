"""Agreement: do all scales of a generator show one picture?"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

NAME = "agreement"
NUM_FAKES = 256
PROTOCOL = (
  f"{NUM_FAKES} fakes, each scale against the largest one averaged over areas: "
  "correlation of the deviations from the mean image, RMSE in [-1, 1]; the "
  "first number is the smallest correlation"
)


def measure(
  batches: Iterable[Mapping[int, ArrayLike]],
) -> dict[str, float]:
  """Compare each scale with the largest one, averaged over areas.

  Batches are images by resolution, (N, H, W, C), as uint8 or in [-1, 1], where
  values that fill little of their range are not rounded. Returns
  "agreement/<res>", the correlation of the deviations from the mean image, 0 if
  one is constant; "agreement_rmse/<res>", in [-1, 1]; "agreement", the smallest
  correlation. Nothing of a single scale.
  """
  sums: dict[int, list] = {}
  for batch in batches:
    scales = {r: _in_double(np.asarray(x)) for r, x in batch.items()}
    pooled = scales.pop(max(scales))
    for resolution, x in sorted(scales.items(), reverse=True):
      while pooled.shape[1] > x.shape[1]:
        pooled = _halved(pooled)
      parts = _sums(x, pooled)
      before = sums.get(resolution, [0] * len(parts))
      sums[resolution] = [a + b for a, b in zip(before, parts, strict=True)]
  values, errors = {}, {}
  for resolution, parts in sorted(sums.items()):
    values[f"{NAME}/{resolution}"] = _correlation(*parts[:-1])
    error = math.sqrt(parts[-1] / (parts[0] * parts[1].size))
    errors[f"{NAME}_rmse/{resolution}"] = error
  return {NAME: min(values.values()), **values, **errors} if values else {}


def _in_double(x: np.ndarray) -> np.ndarray:
  return x / 127.5 - 1 if x.dtype == np.uint8 else x.astype(np.float64)


def _sums(x: np.ndarray, y: np.ndarray) -> tuple:
  """Return what the correlation and the error of all batches need."""
  squares = (np.sum(a * b) for a, b in ((x, x), (y, y), (x, y)))
  return len(x), x.sum(0), y.sum(0), *squares, np.sum((x - y) ** 2)


def _correlation(count, x, y, xx, yy, xy) -> float:
  variance_x, variance_y, covariance = (
    squares - np.sum(a * b) / count
    for squares, a, b in ((xx, x, x), (yy, y, y), (xy, x, y))
  )
  # Of constants, rounding leaves about 1e-16 of the squares.
  if variance_x <= 1e-12 * xx or variance_y <= 1e-12 * yy:
    return 0.0
  return float(covariance / math.sqrt(variance_x * variance_y))


def _halved(x: np.ndarray) -> np.ndarray:
  """Average 2x2 pixels of (N, H, W, C)."""
  rows = x[:, ::2] + x[:, 1::2]
  return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
