"""Copiers, mode droppers and perfect samplers are told apart."""

import numpy as np
import pytest

from msggan_jax.metrics import copying

DIMENSIONS = 8
MODES = np.random.RandomState(1).randn(6, DIMENSIONS) * 6


def draw(seed, count, modes=MODES):
  random = np.random.RandomState(seed)
  points = modes[random.randint(len(modes), size=count)]
  return (points + random.randn(count, DIMENSIONS)).astype(np.float32)


@pytest.fixture(scope="module")
def train():
  return draw(0, 1200)


@pytest.fixture(scope="module")
def holdout():
  return draw(2, 1200)


def measure(train, holdout, fakes):
  return copying.measure(train[:, None], holdout[:, None], fakes)


def near(points, seed, count, scale):
  random = np.random.RandomState(seed)
  chosen = points[random.randint(len(points), size=count)]
  return chosen + scale * random.randn(*chosen.shape).astype(np.float32)


def test_planted_samplers_are_ranked(train, holdout):
  fakes = {
    "copier": near(train, 3, 600, 0.0),
    "near copier": near(train, 3, 600, 0.2),
    "half copier": np.concatenate([near(train, 3, 300, 0.1), draw(4, 300)]),
    "perfect": draw(5, 600),
    "dropper": draw(6, 600, MODES[:3]),
    "blurred": near(draw(7, 600), 8, 600, 1.5),
  }
  found = {name: measure(train, holdout, x) for name, x in fakes.items()}
  assert found["copier"].share > 0.99
  assert found["near copier"].share > 0.95
  assert 0.7 < found["half copier"].share < 0.8
  for name in ("perfect", "dropper", "blurred"):
    assert abs(found[name].share - 0.5) < 0.07, name
  z = {name: x.z for name, x in found.items()}
  assert z["copier"] < z["near copier"] < z["half copier"] < -3
  assert abs(z["perfect"]) < 3 and abs(z["dropper"]) < 3
  assert z["blurred"] > 3


def test_the_closest_pairs_come_first(train, holdout):
  fakes = np.concatenate([draw(5, 50), train[[7, 3]]])
  found = measure(train, holdout, fakes)
  assert set(found.fakes[:2]) == {50, 51}
  assert {7, 3} == set(found.reals[:2])
  assert len(found.fakes) == 10
  distances = ((fakes[found.fakes] - train[found.reals]) ** 2).sum(axis=1)
  assert (np.diff(distances) >= 0).all()


def test_mirrored_copies_are_copies(train, holdout):
  """The views of an image are far apart, as those of a face from the side."""
  other = np.random.RandomState(9).randn(DIMENSIONS).astype(np.float32) * 9
  views = [np.stack([x, x + other], axis=1) for x in (train, holdout)]
  fresh = draw(5, 600)
  fresh[::2] += other
  found = copying.measure(*views, fresh)
  assert abs(found.share - 0.5) < 0.07 and abs(found.z) < 3
  for copies in (train[:300], train[:300] + other):
    found = copying.measure(*views, copies)
    assert found.share > 0.99 and found.z < -3
    np.testing.assert_array_equal(found.reals, found.fakes)
