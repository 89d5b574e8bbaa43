"""Agreement of planted pyramids."""

import math

import numpy as np
import pytest

from msggan_jax.metrics import agreement


def planted(scales=((4, 4), (8, 8), (16, 16)), channels=3, num=256, noise=0.0):
  """Return float images by resolution, whose deviations are all independent.

  The smallest has the standard deviation 0.2. Others add details of mean 0, so
  the pyramid is exact; `noise` is added to all scales but the largest.
  """
  random = np.random.default_rng(0)
  size = (num, *scales[0], channels)
  images = random.uniform(-0.3, 0.3, size[1:]) + 0.2 * random.normal(size=size)
  pyramid = {}
  for height, width in scales:
    if (height, width) != scales[0]:
      images = images.repeat(2, 1).repeat(2, 2)
      detail = 0.05 * random.normal(size=(num, height // 2, width, channels))
      images = images + np.stack([detail, -detail], 2).reshape(images.shape)
    pyramid[max(height, width)] = images
  for images in list(pyramid.values())[:-1]:
    images += noise * random.normal(size=images.shape)
  return pyramid


def measure(pyramid, batch=100):
  images = {
    r: np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)
    for r, x in pyramid.items()
  }
  starts = range(0, len(next(iter(images.values()))), batch)
  return agreement.measure(
    {r: x[start : start + batch] for r, x in images.items()} for start in starts
  )


@pytest.mark.parametrize(("rows", "channels"), [(4, 3), (3, 1)])
def test_an_exact_pyramid_agrees(rows, channels):
  scales = [(rows * n, 4 * n) for n in (1, 2, 4)]
  values = measure(planted(scales, channels))
  names = ["agreement", "agreement/4", "agreement/8"]
  assert list(values) == [*names, "agreement_rmse/4", "agreement_rmse/8"]
  for name in names:
    assert 0.9998 < values[name] <= 1
  # A level of uint8 is 2 / 255; those of the averaged images are finer.
  for name in ("agreement_rmse/4", "agreement_rmse/8"):
    assert values[name] == pytest.approx(2 / 255 / math.sqrt(12), rel=0.15)


def test_values_that_fill_little_of_their_range_are_not_rounded():
  pyramid = {r: 1e-3 * x for r, x in planted().items()}
  assert agreement.measure([pyramid])["agreement"] == pytest.approx(1, abs=1e-9)


def test_noise_has_the_closed_form():
  """Of signal s and noise n: s / sqrt(s^2 + n^2), and RMSE n."""
  values = measure(planted(noise=0.1))
  expected = 0.2 / math.hypot(0.2, 0.1)
  assert values["agreement/4"] == pytest.approx(expected, rel=0.01)
  assert values["agreement_rmse/4"] == pytest.approx(0.1, rel=0.02)
  assert values["agreement"] == values["agreement/4"]  # the smallest
  # As if all images were one array, in any batches.
  whole = measure(planted(noise=0.1), batch=256)
  assert values == pytest.approx(whole, rel=1e-9)


def test_constants_and_a_single_scale():
  pyramid = planted()
  pyramid[4] = np.zeros_like(pyramid[4])
  assert measure(pyramid)["agreement/4"] == 0
  assert measure({8: pyramid[8]}) == {}
