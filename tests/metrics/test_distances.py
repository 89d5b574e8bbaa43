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


def test_a_set_has_no_distance_from_itself():
  x = feats(4, 40, 64)  # fewer than dimensions
  trace = np.trace(np.cov(x, rowvar=False))
  assert abs(metrics.frechet_distance(x, x)) < 1e-10 * trace
  assert metrics.precision_recall(x, x) == (1, 1)


def test_streaming_changes_nothing():
  """Any batch size and order; saved and restored on the way."""
  expected = metrics.frechet_distance(A, B)
  for batch_size in (1, 7, 64, 100):
    moments = Moments()
    shuffled = np.random.RandomState(batch_size).permutation(A)
    for start in range(0, len(A), batch_size):
      moments.add(shuffled[start : start + batch_size])
      moments = Moments(**moments.arrays())
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


def test_too_few_features_are_refused():
  for measure, given, message in (
    (metrics.frechet_distance, (A[:1], B), "2 features or more"),
    (metrics.kernel_distance, (A[:1], B), "2 features or more"),
    (metrics.precision_recall, (A[:3], B), "no 3 neighbors"),
    (metrics.inception_score, (A[:9],), "too few"),
    (metrics.kernel_distance_of_subsets, (A, B), "subsets of 1000 from 500"),
  ):
    with pytest.raises(ValueError, match=message):
      measure(*given)


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


def test_the_error_of_a_kernel_distance():
  """That of a jackknife as written, and about the spread of many distances."""
  r = np.random.RandomState(0)

  def draw():
    return r.randn(30, 8), r.randn(40, 8) * 1.2 + 0.3

  a, b = draw()
  parts = [
    [distances.kernel_distance(np.delete(a, i, 0), b) for i in range(30)],
    [distances.kernel_distance(a, np.delete(b, i, 0)) for i in range(40)],
  ]
  expected = np.sqrt(sum((len(x) - 1) * np.var(x) for x in parts))
  actual = distances.kernel_distance_error(a, b)
  np.testing.assert_allclose(actual, expected, rtol=1e-9)
  pairs = [draw() for _ in range(200)]
  spread = np.std([distances.kernel_distance(*pair) for pair in pairs])
  errors = [distances.kernel_distance_error(*pair) for pair in pairs]
  assert 0.8 < np.sqrt(np.mean(np.square(errors))) / spread < 1.3
