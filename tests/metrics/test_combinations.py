"""Parts and combinations of the cats that planted samplers draw."""

import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.data.sources import demo
from msggan_jax.metrics import combinations

RESOLUTION = 16
REALS = 2100


@pytest.fixture(scope="module")
def layers():
  return demo._cat_layers(RESOLUTION)


def draw(layers, cats):
  images = np.stack([demo._compose(layers, cat) for cat in cats])
  return images.reshape(len(cats), -1).astype(np.float32) / 255


def test_planted_samplers_are_ranked(layers):
  trained_on = [data.cat_parts(i) for i in range(REALS)]
  unseen = [data.cat_parts(i, "test") for i in range(600)]
  reals, parts = draw(layers, trained_on), np.array(trained_on)
  without = [cat for cat in unseen if cat.body >= 5 and cat.eyes != 3]
  random = np.random.RandomState(0)
  fakes = {
    "perfect": draw(layers, unseen),
    "noisy": draw(layers, unseen) + 0.03 * random.randn(600, reals.shape[1]),
    "copier": reals[:600],
    "dropper": draw(layers, without),
    "one cat": draw(layers, unseen[:1] * 50),
  }
  found = {
    name: combinations.measure(reals, parts, x, trained_on)
    for name, x in fakes.items()
  }
  for name in ("perfect", "noisy"):
    assert found[name]["_body"] == 15
    assert found[name]["_eyes"] == 15
    assert found[name]["_accessory"] == 16
    assert found[name]["_novel"] > 0.95
    assert found[name]["_distinct"] > 0.9
  assert found["copier"]["_novel"] < 0.3
  assert found["dropper"]["_body"] == 10
  assert found["dropper"]["_eyes"] == 14
  assert found["dropper"]["_novel"] > 0.95
  assert found["one cat"][""] == 5
  assert found["one cat"]["_distinct"] == 1 / 50
  ranking = ["perfect", "dropper", "one cat"]
  totals = [found[name][""] for name in ranking]
  assert totals == sorted(totals, reverse=True)
  for layer, most in (("body", 0.02), ("eyes", 0.02), ("mouth", 0.2)):
    assert found["perfect"][f"_error_{layer}"] < most
