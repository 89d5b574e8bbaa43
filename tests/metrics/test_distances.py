"""Distances: torch-fidelity's numbers, closed forms, independence of order."""

from pathlib import Path

import numpy as np
import pytest

from msggan_jax import metrics
from msggan_jax.metrics import distances
from msggan_jax.metrics.distances import Moments

GOLDEN = np.load(Path(__file__).parents[1] / "golden_metrics" / "inception.npz")


def feats(seed, n, d):
  """Make the arrays of the golden file's README."""
  r = np.random.RandomState(seed)
  x = np.abs(r.randn(n, d) @ (r.randn(d, d) * 0.2))
  return (x + 0.01 * seed).astype(np.float32)


A, B = feats(1, 600, 64), feats(2, 500, 64)


def test_agrees_with_torch_fidelity():
  fid = metrics.frechet_distance(A, B)
  np.testing.assert_allclose(fid, GOLDEN["fid_small"], rtol=1e-6)
  np.testing.assert_allclose(
    metrics.kernel_distance(A, B), 0.66490063, rtol=1e-7
  )
  kid, _ = metrics.kernel_distance_of_subsets(
    A, B, subset_size=500, num_subsets=1
  )
  np.testing.assert_allclose(kid, 0.6294337, rtol=1e-7)
  np.testing.assert_allclose(kid, GOLDEN["kid_500"][0], rtol=1e-5)
  precision_recall = metrics.precision_recall(reals=B, fakes=A, neighbors=3)
  np.testing.assert_allclose(precision_recall, GOLDEN["prc"][:2], rtol=1e-6)
  score = metrics.inception_score(feats(3, 1000, 20) * np.float32(0.3))
  np.testing.assert_allclose(score, GOLDEN["isc"], rtol=1e-6)


@pytest.mark.parametrize("n", [40, 500])
def test_a_set_has_no_distance_from_itself(n):
  """Also with fewer features than dimensions."""
  x = feats(4, n, 64)
  trace = np.trace(np.cov(x, rowvar=False))
  assert abs(metrics.frechet_distance(x, x)) < 1e-10 * trace
  assert metrics.precision_recall(x, x) == (1, 1)


def test_frechet_distance_in_one_dimension():
  """|mu - mu'|^2 + (sigma - sigma')^2."""
  a, b = A[:, :1].astype(np.float64), B[:, :1].astype(np.float64)
  expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
  np.testing.assert_allclose(metrics.frechet_distance(a, b), expected)


def test_streaming_changes_nothing():
  """Any batch size and order; saved and restored on the way."""
  expected = metrics.frechet_distance(A, B)
  for batch_size in (1, 7, 64, 100):
    moments = Moments()
    shuffled = np.random.RandomState(batch_size).permutation(A)
    for start in range(0, len(A), batch_size):
      moments.add(shuffled[start : start + batch_size])
      moments = Moments.from_arrays(moments.arrays())
    actual = metrics.frechet_distance(moments, B)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_blocks_change_nothing(monkeypatch):
  names = ("kernel_distance", "precision_recall")
  expected = [getattr(metrics, name)(A, B) for name in names]
  monkeypatch.setattr("msggan_jax.metrics.distances._BLOCK", 33)
  actual = [getattr(metrics, name)(A, B) for name in names]
  np.testing.assert_allclose(actual[0], expected[0], rtol=1e-12)
  assert actual[1] == expected[1]


def test_the_kernel_on_a_device(monkeypatch):
  """float32 products change KID far less than its standard error."""
  a, b = feats(1, 900, 256) / 4, feats(1, 1200, 256)[::-1] / 4
  expected = metrics.kernel_distance(a, b)
  on_device = distances._kernel_sum_on_device
  monkeypatch.setattr(distances, "_kernel_sum", on_device)
  assert abs(metrics.kernel_distance(a, b) - expected) < 1e-6


def test_subsets_estimate_the_whole():
  whole = metrics.kernel_distance(A, B)
  mean, error = metrics.kernel_distance_of_subsets(A, B, subset_size=100)
  assert 0 < error < 0.1 * whole
  assert abs(mean - whole) < 3 * error
  with pytest.raises(ValueError, match="subsets of 501 from 500"):
    metrics.kernel_distance_of_subsets(A, B, subset_size=501)


def test_kernel_distance_by_its_definition():
  a, b = A[:5, :2].astype(np.float64), B[:4, :2].astype(np.float64)
  k = lambda x, y: (x @ y / 2 + 1) ** 3
  within = lambda s: np.mean(
    [k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
  )
  between = np.mean([k(x, y) for x in a for y in b])
  expected = within(a) + within(b) - 2 * between
  np.testing.assert_allclose(metrics.kernel_distance(a, b), expected)


def test_precision_and_recall_of_points_on_a_line():
  """Balls to the nearest neighbor: reals cover [-1, 2] and [9, 11]."""
  reals = np.array([[0.0], [1], [10], [11]])
  fakes = np.array([[0.5], [1.9], [2.1], [30]])
  precision, recall = metrics.precision_recall(reals, fakes, neighbors=1)
  assert precision == 0.5  # 0.5 and 1.9
  # Fakes cover [-0.9, 1.9], [1.7, 2.1], [1.9, 2.3] and [2.1, 57.9].
  assert recall == 1.0


def test_inception_score_of_certain_classes():
  """k equally frequent, certain classes score k; no information scores 1."""
  certain = np.eye(4, dtype=np.float32)[np.arange(80) % 4] * 1000
  np.testing.assert_allclose(
    metrics.inception_score(certain, splits=10), (4, 0), atol=1e-12
  )
  np.testing.assert_allclose(metrics.inception_score(certain * 0), (1, 0))


def test_too_few_features_are_refused():
  with pytest.raises(ValueError, match="2 or more"):
    metrics.frechet_distance(A[:1], B)
  with pytest.raises(ValueError, match="2 or more"):
    metrics.kernel_distance(A[:1], B)
  with pytest.raises(ValueError, match="no 3 neighbors"):
    metrics.precision_recall(A[:3], B)
  with pytest.raises(ValueError, match="too few"):
    metrics.inception_score(A[:9])


def test_nearest_agrees_with_all_distances(monkeypatch):
  monkeypatch.setattr(distances, "_BLOCK", 33)
  features = np.concatenate([A, B[:50]])
  all_distances = np.linalg.norm(B[:, None] - features, axis=-1)
  found, places = distances.nearest(B, features, 3)
  order = all_distances.argsort(axis=1, kind="stable")[:, :3]
  np.testing.assert_array_equal(places, order)
  expected = np.take_along_axis(all_distances, order, axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert (found[:50, 0] == 0).all()  # copies
  with pytest.raises(ValueError, match="651 nearest .* there are 650"):
    distances.nearest(B, features, 651)
