"""Spectra, histograms and correlations of images' values, without a network.

All are means over images, so each image has its share of them as features, and
the distances of `feature_pass.compute` are between such means.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.metrics.distances import Rows
from msggan_jax.metrics.frozen_network import Features, Images
from msggan_jax.models.pyramid import to_float

SPECTRUM, HISTOGRAM, CORRELATION = KINDS = (
  *("spectrum", "histogram", "correlation"),
)
PLOTTED = (SPECTRUM, HISTOGRAM)
_BINS = 1024  # of a histogram, over [-1, 1]
_BARS = 64  # of a plotted one
_TAILS = (0.001, 0.999)
_MOST_CHANNELS = 8  # that have numbers of their own
_LEAST = 1e-12  # power; less is none, as of constants
_VERSION = "values-1"  # of the features, in the reals' cache


class ValueStatistics:
  """The extractor of all three, of stored images or those in [-1, 1]."""

  pooled = SPECTRUM
  logits = None
  weights_hash = _VERSION

  def features(self, images: Images) -> Features:
    """Compute the features of images, (N, H, W, C), float32, by kind.

    spectrum: the power of each channel by radial wave number, without the mean;
    histogram: the share of a channel's values in each bin; correlation: the
    means of the channels and of their products.
    """
    features = _features(jnp.asarray(images))
    return {name: np.asarray(x) for name, x in features.items()}


class Halves:
  """Sums of features that arrive in batches, each (B, D), of two halves.

  For distances of means, of features that are too large for `Rows`. `order`
  has the numbers of all features, first those of the first half.
  """

  def __init__(self, order: np.ndarray, sums: Any = 0.0):
    self._order, self._sums, self._added = order, sums, 0
    self._is_in = np.zeros((2, len(order)))
    for row, half in zip(self._is_in, np.array_split(order, 2), strict=True):
      row[half] = 1

  def add(self, features: np.ndarray) -> None:
    """Add features, (B, D)."""
    start, self._added = self._added, self._added + len(features)
    here = self._is_in[:, start : self._added]
    self._sums = self._sums + here @ np.asarray(features, np.float64)

  @property
  def array(self) -> np.ndarray:
    """The mean, as the only row, (1, D)."""
    return self._sums.sum(axis=0, keepdims=True) / len(self._order)

  @property
  def shape(self) -> tuple[int, int]:
    """The number of features and their dimension, (N, D)."""
    return len(self._order), self._sums.shape[1]

  def halves(self) -> Iterator[Rows]:
    """Return the means of the halves, each as the only row."""
    means = self._sums / self._is_in.sum(axis=1, keepdims=True)
    return map(Rows, np.split(means, 2))

  def arrays(self) -> dict[str, Any]:
    """Return the arguments of the same halves."""
    return {"order": self._order, "sums": self._sums}


@jax.jit
def _features(images: jax.Array) -> dict[str, jax.Array]:
  x = to_float(images).astype(jnp.float32)
  x = jnp.clip(x, -1, 1)
  count, height, width, channels = x.shape
  pixels = x.reshape(count, height * width, channels)
  places = jnp.clip(((pixels + 1) * _BINS / 2).astype(jnp.int32), 0, _BINS - 1)
  histogram = jax.vmap(
    jax.vmap(functools.partial(jnp.bincount, length=_BINS), in_axes=1)
  )(places)
  mean = pixels.mean(1)
  rest = pixels - mean[:, None]  # rounds less than the pixels themselves
  products = jnp.einsum("npc,npd->ncd", rest, rest) / (height * width)
  products += mean[:, :, None] * mean[:, None]
  moments = [mean, products.reshape(count, -1)]
  return {
    SPECTRUM: _spectrum(x).reshape(count, -1),
    HISTOGRAM: histogram.reshape(count, -1) / (height * width),
    CORRELATION: jnp.concatenate(moments, axis=1),
  }


def _spectrum(x: jax.Array) -> jax.Array:
  """Return the power by wave number, (N, numbers, C), of windowed images."""
  _, height, width, _ = x.shape
  # Borders do not meet; the window keeps their jump out of the high numbers.
  window = np.multiply.outer(
    *(np.hanning(n + 2)[1:-1] for n in (height, width))
  )
  window = jnp.asarray(window / np.sqrt(np.mean(window**2)), x.dtype)
  window = window[None, :, :, None]
  mean = (x * window).mean((1, 2), keepdims=True) / window.mean()
  waves = jnp.fft.rfft2((x - mean) * window, axes=(1, 2))
  rows = np.fft.fftfreq(height)[:, None]
  columns = np.fft.rfftfreq(width)[None]
  side = min(height, width)
  number = np.rint(np.hypot(rows, columns) * side).astype(int)
  # Each wave of the left half stands for its mirror image, too.
  twice = 2.0 - ((columns == 0) | (2 * columns == 1))
  scale = twice[None, ..., None] / (height * width) ** 2
  power = jnp.square(jnp.abs(waves)).astype(x.dtype) * scale.astype(x.dtype)
  power = power.reshape(len(x), number.size, -1)
  sums = jax.vmap(
    lambda each: jax.ops.segment_sum(each, number.ravel(), number.max() + 1)
  )(power)
  return sums[:, 1 : side // 2 + 1]


def distance(
  kind: str, name: str, reals: np.ndarray, fakes: np.ndarray
) -> dict[str, float]:
  """Return the numbers of a kind between features, (N, D), by name.

  spectrum: the root mean square of the difference in dB; histogram:
  Wasserstein's distance in shares of the range, a mean over the channels, and
  the largest difference of the ends that 0.1 % of the values are beyond;
  correlation: the largest difference of two channels' correlation.
  """
  means = [x.mean(0, dtype=np.float64) for x in (reals, fakes)]
  if kind == SPECTRUM:
    real, fake = (10 * np.log10(np.maximum(x, _LEAST)) for x in means)
    return {name: math.sqrt(np.mean((fake - real) ** 2))}
  if kind == CORRELATION:
    real, fake = map(_correlations, means)
    return {name: float(np.abs(fake - real).max())}
  real, fake = (np.cumsum(x.reshape(-1, _BINS), axis=1) for x in means)
  low, high = (
    np.abs(_quantile(fake, share) - _quantile(real, share)).max()
    for share in _TAILS
  )
  by_channel = np.abs(fake - real).mean(axis=1)
  values = {name: float(by_channel.mean())}
  values |= {f"{name}_low": float(low), f"{name}_high": float(high)}
  if 1 < len(by_channel) <= _MOST_CHANNELS:
    for i, value in enumerate(by_channel.tolist(), 1):
      values[f"{name}_channel_{i}"] = value
  return values


def plot(
  kind: str, reals: np.ndarray, fakes: np.ndarray, channels: int
) -> np.ndarray:
  """Draw the mean features, (N, D), of the first channels: uint8, (H, W, 3)."""
  from msggan_jax.runtime import plots  # late, so that training starts sooner

  curves = {}
  for name, features in (("reals", reals), ("fakes", fakes)):
    mean = features.mean(0, dtype=np.float64)
    if kind == SPECTRUM:
      curves[name] = mean.reshape(-1, channels).T
    else:
      curves[name] = mean.reshape(channels, _BARS, -1).sum(-1)
    curves[name] = np.where(curves[name] < _LEAST, 0, curves[name])
    curves[name] = curves[name][:_MOST_CHANNELS]
  if kind == SPECTRUM:
    x = np.arange(1, curves["reals"].shape[1] + 1)
    return plots.panels(x, curves, "waves across the image", "power")
  x = (np.arange(_BARS) + 0.5) * 100 / _BARS
  return plots.panels(x, curves, "value, % of the range", "share of values")


def _correlations(moments: np.ndarray) -> np.ndarray:
  channels = math.isqrt(len(moments))  # of channels + channels^2
  mean = moments[:channels]
  second = moments[channels:].reshape(channels, channels)
  covariance = second - np.outer(mean, mean)
  variance = np.diag(covariance)
  # What is within rounding of constant has no correlation.
  is_constant = variance <= 1e-6 * np.diag(second)
  deviation = np.sqrt(np.where(is_constant, np.inf, variance))
  correlations = covariance / np.outer(deviation, deviation)
  np.fill_diagonal(correlations, 1)
  return correlations


def _quantile(cumulative: np.ndarray, share: float) -> np.ndarray:
  """Return where a share of each channel's values is below, from 0 to 1."""
  return (cumulative < share).sum(axis=1) / _BINS
