"""Bodies, parts and combinations of the cats that planted samplers draw."""

import numpy as np

from benchmarks import cats
from msggan_jax.data.sources import demo

RESOLUTION = 16
REALS = 2100


def test_planted_samplers_are_ranked():
  layers = demo._cat_layers(RESOLUTION)
  draw = lambda all_parts: cats._pixels(
    np.stack([demo._compose(layers, parts) for parts in all_parts])
  )
  trained_on = [demo.cat_parts(i) for i in range(REALS)]
  unseen = [demo.cat_parts(i, "test") for i in range(600)]
  reals, parts = draw(trained_on), np.array(trained_on)
  without = [cat for cat in unseen if cat.body >= 5 and cat.eyes != 3]
  noise = 0.03 * np.random.RandomState(0).randn(600, reals.shape[1])
  fakes = {
    "perfect": draw(unseen),
    "noisy": draw(unseen) + noise,
    "copier": reals[:600],
    "dropper": draw(without),
    "one cat": draw(unseen[:1] * 50),
  }
  found = {
    name: cats.combinations(reals, parts, x, trained_on)
    for name, x in fakes.items()
  }
  for name in ("perfect", "noisy"):
    assert found[name]["body"] == 15
    assert found[name]["eyes"] == 15
    assert found[name]["accessory"] == 16
    assert found[name]["novel"] > 0.95
    assert found[name]["distinct"] > 0.9
  assert found["copier"]["novel"] < 0.3
  assert found["dropper"]["body"] == 10
  assert found["dropper"]["eyes"] == 14
  assert found["dropper"]["novel"] > 0.95
  assert found["one cat"]["parts"] == 5
  assert found["one cat"]["distinct"] == 1 / 50
  totals = [found[name]["parts"] for name in ("perfect", "dropper", "one cat")]
  assert totals == sorted(totals, reverse=True)
  for layer, most in (("body", 0.02), ("eyes", 0.02), ("mouth", 0.2)):
    assert found["perfect"][f"error_{layer}"] < most


def test_a_body_at_a_tenth_of_its_share_is_lost():
  corners = np.eye(15)
  noise = np.random.RandomState(0).randn(3000, 15) * 0.05
  bodies = np.arange(3000) % 15
  features = corners[bodies] + noise
  count = lambda fakes: cats.count_bodies(features, bodies, fakes)
  assert count(features) == 15
  assert count(features[bodies < 8]) == 8
  assert count(features[bodies == 3]) == 1
  rare = np.concatenate([features[bodies < 8], features[bodies == 9][:20]])
  assert count(rare) == 8
