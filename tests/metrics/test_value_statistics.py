"""Spectra, histograms and correlations against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.metrics import feature_pass, protocols, value_statistics
from msggan_jax.metrics.distances import Rows
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.value_statistics import KINDS, ValueStatistics

PROTOCOLS = {kind: protocols.parse(f"{kind}64_full", ())[0] for kind in KINDS}


def noise(seed, count=64, side=16, channels=2):
  """Return white noise with a deviation of 0.1."""
  random = np.random.default_rng(seed)
  shape = (count, side, side, channels)
  return 0.1 * random.normal(size=shape).astype(np.float32)


def distances(kind, reals, fakes):
  extractor = ValueStatistics()
  features = (Rows(extractor.features(x)[kind]) for x in (reals, fakes))
  return feature_pass.compute(PROTOCOLS[kind], *features)


def test_twice_the_amplitude_is_six_decibels():
  reals = noise(0)
  found = distances("spectrum", reals, 2 * reals)
  assert found["spectrum64_full"] == pytest.approx(20 * np.log10(2), abs=1e-3)
  # The mean is no wave.
  moved = distances("spectrum", reals, reals + 0.3)
  assert moved["spectrum64_full"] < 1e-3


def test_a_wave_is_found_at_its_number():
  columns = np.arange(32)
  for height, width in ((32, 32), (24, 32)):
    wave = 0.5 * np.cos(2 * np.pi * 5 * columns[:width] / width)
    wave = np.broadcast_to(wave, (height, width))[None, ..., None]
    power = ValueStatistics().features(wave)["spectrum"][0]
    assert len(power) == height // 2
    # Its variance is a^2 / 2, within the numbers to which the window leaks.
    number = round(5 * height / width)
    near = power[number - 3 : number + 2].sum()
    assert near == pytest.approx(0.5**2 / 2, rel=0.02)
    assert power.sum() == pytest.approx(near, rel=0.02)


def test_a_shift_is_wasserstein_distance():
  reals = noise(0)
  fakes = reals + np.array([0.2, 0.0], np.float32)
  found = distances("histogram", reals, fakes)
  # In shares of the range, whose width is 2, of one of two channels.
  assert found["histogram64_full_channel_1"] == pytest.approx(0.1, abs=1e-3)
  assert found["histogram64_full"] == pytest.approx(0.05, abs=1e-3)
  for end in ("low", "high"):
    assert found[f"histogram64_full_{end}"] == pytest.approx(0.1, abs=2e-3)


def test_correlations_of_channels():
  reals, fakes = noise(0), noise(1)
  mixed = np.stack([fakes[..., 0], fakes[..., 0] + fakes[..., 1]], -1)
  found = distances("correlation", reals, mixed)["correlation64_full"]
  assert found == pytest.approx(np.sqrt(0.5), abs=0.02)
  # A constant channel has no correlation, whatever its rounding.
  for value in (0.3, 0.7123, -0.98):
    constant = np.full((2, 256, 256, 2), value, np.float32)
    both = constant, noise(0, 2, 256)
    assert distances("correlation", *both)["correlation64_full"] < 0.05


def test_floors_are_those_of_noise_and_pictures_count_too():
  reals = noise(0)
  for kind, most in (
    ("spectrum", 0.5),
    ("histogram", 3e-3),
    ("correlation", 0.03),
  ):
    features = ValueStatistics().features(reals)[kind]
    floor = feature_pass.floor(PROTOCOLS[kind], Rows(features))
    assert 0 < floor[f"{kind}64_full_floor"] < most
  levels = np.rint((reals + 1) * 127.5).astype(np.uint8)
  found = distances("histogram", levels, reals)
  assert found["histogram64_full"] < 0.005
  found = ValueStatistics().features(jnp.asarray(levels))
  assert found["correlation"].shape == (64, 6)


def test_histograms_need_no_memory_of_each_image():
  """Their sums give the same bytes, also from the cache."""
  features = ValueStatistics().features(noise(0, count=21))["histogram"]
  fakes = Rows(ValueStatistics().features(noise(1))["histogram"])
  rows, protocol = Rows(features), PROTOCOLS["histogram"]
  passes = feature_pass.Passes(Extractors(), 16, 8)
  sums = passes.request(protocol, len(features)).empty()
  for batch in np.array_split(features, 3):
    sums.add(batch)
  for same in (sums, type(sums)(**sums.arrays())):
    assert same.array.size * 21 == features.size
    for measure in (
      lambda x: feature_pass.compute(protocol, x, fakes),
      lambda x: feature_pass.floor(protocol, x),
    ):
      assert measure(same) == measure(rows)


def test_names():
  assert protocols.defaults_of_values(1, (8,), "10k") == [
    "spectrum10k_full",
    "histogram10k_full",
    "spectrum10k_full/8",
  ]
  for name in ("spectrum_efficientnet_lite0_1k", "histogram1k_per_class"):
    with pytest.raises(ValueError, match="has no feature network and no _per"):
      protocols.parse(name, ("inception", "efficientnet_lite0"))
  with pytest.raises(ValueError, match="needs two channels"):
    feature_pass.check_channels(PROTOCOLS["correlation"], 1, "")


@pytest.mark.parametrize(
  "kind, reals, fakes",
  [
    ("spectrum", noise(0), noise(1)),  # less than a decade
    ("spectrum", 1e-4 * noise(0), np.zeros((2, 16, 16, 2))),
    ("histogram", 5 * noise(0, channels=8), noise(1, channels=8) / 100),
  ],
)
@pytest.mark.filterwarnings("error")
def test_plotted_curves_fill_the_picture(kind, reals, fakes):
  features = [ValueStatistics().features(x)[kind] for x in (reals, fakes)]
  shown = value_statistics.plot(kind, *features, reals.shape[-1])
  height, width, _ = shown.shape
  assert width == 512 and height <= 512  # a report shows no more
  nothing = np.full_like(features[0], np.nan)
  empty = value_statistics.plot(kind, nothing, nothing, reals.shape[-1])
  assert empty.shape == shown.shape
  blue = np.abs(shown - np.array([0x00, 0x72, 0xB2])).sum(2) < 20
  left, right = blue[:, :256], blue[:, 256:]
  for columns in (np.flatnonzero(half.any(0)) for half in (left, right)):
    assert columns[0] < 110 and columns[-1] > 180
