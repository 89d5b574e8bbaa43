"""The demo's cats: which parts a generator draws, and which new cats.

Linear classifiers, fitted by ridge regression to real cats whose parts are
known, name the parts of fakes.
"""

from collections.abc import Sequence

import numpy as np

from msggan_jax.data import CatParts

_RIDGE = 1e-3  # times the mean variance of a feature
_FITTED = 2 / 3  # share of the reals to fit; the errors are of the others


class PartClassifier:
  """Names the parts of cats.

  Attributes:
    errors: Share of real cats, not fitted to, whose part is named wrongly, by
      layer.
  """

  def __init__(self, features: np.ndarray, parts: np.ndarray):
    """Fit to real cats.

    Args:
      features: (N, D).
      parts: The number of each layer's part, (N, 5).
    """
    fitted = round(_FITTED * len(features))
    self.num_fitted = fitted
    self._mean = features[:fitted].mean(axis=0)
    centered = features[:fitted] - self._mean
    targets = [_one_hot(layer) for layer in parts[:fitted].T]
    self._ends = np.cumsum([target.shape[1] for target in targets])[:-1]
    target = np.concatenate(targets, axis=1)
    self._bias = target.mean(axis=0)
    covariance = centered.T @ centered / fitted
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
    covariance[np.diag_indices_from(covariance)] += ridge
    self._weights = np.linalg.solve(
      covariance, centered.T @ (target - self._bias) / fitted
    )
    named = self.name(features[fitted:])
    wrong = (named != parts[fitted:]).mean(axis=0)
    self.errors = dict(zip(CatParts._fields, wrong.tolist(), strict=True))

  def name(self, features: np.ndarray) -> np.ndarray:
    """Return the parts of cats, (N, 5)."""
    scores = (features - self._mean) @ self._weights + self._bias
    layers = np.split(scores, self._ends, axis=1)
    return np.stack([layer.argmax(axis=1) for layer in layers], axis=1)


def measure(
  reals: np.ndarray,
  parts: np.ndarray,
  fakes: np.ndarray,
  trained_on: Sequence[CatParts],
) -> dict[str, float]:
  """Compare the parts and combinations of fakes with those of real cats.

  A part is found if the fakes show it at least half as often as the reals.

  Args:
    reals: Features of training cats, (N, D).
    parts: Their parts, (N, 5).
    fakes: Features of fakes, (K, D).
    trained_on: The parts of all training cats.

  Returns:
    "": parts found, and by layer; "_novel": share of fakes whose combination
    is no training cat's, "_novel_of_training": the same of training cats not
    fitted to, which is the classifier's mistake; "_distinct": share of
    different combinations among the fakes; "_error_<layer>": the classifier's.
  """
  classifier = PartClassifier(reals, parts)
  named = classifier.name(fakes)
  found = {
    layer: _found(parts[:, i], named[:, i])
    for i, layer in enumerate(CatParts._fields)
  }
  known = {tuple(cat) for cat in trained_on}
  of_training = classifier.name(reals[classifier.num_fitted :])
  cats = [tuple(cat) for cat in named.tolist()]
  return {
    "": sum(found.values()),
    **{f"_{layer}": count for layer, count in found.items()},
    "_novel": _share_outside(known, cats),
    "_novel_of_training": _share_outside(
      known, [tuple(cat) for cat in of_training.tolist()]
    ),
    "_distinct": len(set(cats)) / len(cats),
    **{f"_error_{layer}": e for layer, e in classifier.errors.items()},
  }


def _one_hot(numbers: np.ndarray) -> np.ndarray:
  return np.eye(numbers.max() + 1, dtype=np.float32)[numbers]


def _found(reals: np.ndarray, fakes: np.ndarray) -> int:
  size = max(reals.max(), fakes.max()) + 1
  real_shares = np.bincount(reals, minlength=size) / len(reals)
  shares = np.bincount(fakes, minlength=size) / len(fakes)
  return int(((real_shares > 0) & (shares >= real_shares / 2)).sum())


def _share_outside(known: set[tuple], cats: list[tuple]) -> float:
  return sum(cat not in known for cat in cats) / len(cats)
