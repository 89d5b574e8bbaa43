"""Find near-duplicates: the same picture, mirrored, compressed or resized.

A thumbnail of 9x8 pixels has 16 coarse features. Cut into classes of about
equally many images, they are the digits of a number; in an order by these
numbers, near-duplicates are neighbors. Several orders have other digits first
and other classes. Only neighbors are compared, by thumbnails and then by
pixels, so the time is n log n for images of any kind.
"""

import base64
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from msggan_jax.data.pixels import to_image
from msggan_jax.runtime import progress

_SIZE = (9, 8)  # columns, rows
_ORDERS = 8
_NEIGHBORS = 8  # that follow an image in an order
_CLASSES = 16  # of a feature
_MOST_LEVELS = 12  # of 255, by which thumbnails of near-duplicates differ
# Part of the contrast by which near-duplicates differ, as a standard deviation:
# JPEG of quality 60 has 0.1 to 0.4, another picture 0.5 to 5.
_MOST_DIFFERENCE = 0.4
_NOISE = 8  # of 255; smaller differences are none
_THUMBNAIL_NOISE = 3  # of 255; the same in thumbnails
_MOST_FAILURES = 16  # comparisons of an image's pixels without success
_BLOCK = 2**14  # pairs of thumbnails compared at a time


def thumbnail(pixels: np.ndarray) -> str:
  """Return the thumbnail of an image, uint8 (H, W, C), as text."""
  image = to_image(pixels).convert("RGB")
  small = image.resize(_SIZE, Image.Resampling.BOX)
  return base64.b64encode(small.tobytes()).decode()


def find_groups(
  thumbnails: Sequence[str],
  digests: Sequence[str],
  read: Callable[[int], np.ndarray],
) -> list[list[int]]:
  """Return the groups of two or more near-duplicates: indices, ascending.

  Near-duplicates of one image are in one group, even if they are not of each
  other. The groups depend on the images alone, not on their order.

  Args:
    digests: Equal for equal images, which are not compared.
    read: Returns an image's pixels, uint8 (H, W, C).
  """
  copies: dict[str, list[int]] = {}
  for index, digest in enumerate(digests):
    copies.setdefault(digest, []).append(index)
  unique = [copies[digest] for digest in sorted(copies)]
  data = b"".join(base64.b64decode(thumbnails[i]) for i, *_ in unique)
  colors = np.frombuffer(data, np.uint8).reshape(len(unique), -1)
  # Rows after these are the thumbnails of the mirrored images.
  columns, rows = _SIZE
  mirrored = colors.reshape(-1, rows, columns, 3)[:, :, ::-1]
  colors = np.concatenate([colors, mirrored.reshape(colors.shape)])
  joined = _Groups(len(unique))
  failures = np.zeros(len(unique), np.int64)
  with progress.bar(0, "Near-duplicates", "comparisons", brief=True) as bar:
    for first, others in _neighbors(_features(colors)):
      i, j = first % len(unique), others % len(unique)
      wanted = joined.of[i] != joined.of[j]
      wanted &= np.maximum(failures[i], failures[j]) < _MOST_FAILURES
      wanted &= np.minimum(first, others) < len(unique)  # not both mirrored
      first, others = _similar(colors, first[wanted], others[wanted])
      bar.total += len(first)
      for i, j in zip(first.tolist(), others.tolist(), strict=True):
        bar.update()
        mirror = max(i, j) >= len(unique)
        i, j = i % len(unique), j % len(unique)
        is_joined = joined.of[i] == joined.of[j]
        if is_joined or max(failures[[i, j]]) >= _MOST_FAILURES:
          continue
        there = read(unique[j][0])
        if are_alike(read(unique[i][0]), there[:, ::-1] if mirror else there):
          joined.join(i, j)
        else:
          failures[[i, j]] += 1
  groups: dict[int, list[int]] = {}
  for group, indices in zip(joined.of.tolist(), unique, strict=True):
    groups.setdefault(group, []).extend(indices)
  return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def are_alike(a: np.ndarray, b: np.ndarray) -> bool:
  """Return whether two images, uint8 (H, W, C), show the same picture."""
  difference = a.astype(np.float32) - b
  if np.abs(difference).max() <= _NOISE:
    return True
  contrast = min(np.sqrt(image.var(axis=(0, 1)).mean()) for image in (a, b))
  return bool(
    np.sqrt(np.square(difference).mean()) <= _MOST_DIFFERENCE * contrast
  )


class _Groups:
  """Numbers that are joined to groups."""

  def __init__(self, count: int):
    self.of = np.arange(count)  # the group of each number
    self._members: dict[int, list[int]] = {}  # of groups of two or more

  def join(self, i: int, j: int) -> None:
    """Join the groups of two numbers; the smaller one is renamed."""
    groups = (self._members.pop(g, [g]) for g in self.of[[i, j]].tolist())
    small, large = sorted(groups, key=len)
    self.of[small] = group = int(self.of[large[0]])
    self._members[group] = large
    large += small


def _features(colors: np.ndarray) -> np.ndarray:
  """Return 10 cosine coefficients of brightness and 6 of color, float32.

  No feature differs by more than the thumbnails do anywhere.
  """
  columns, rows = _SIZE
  waves = [
    np.cos(np.pi * np.outer(np.arange(4), np.arange(n) + 0.5) / n)
    for n in (rows, columns)
  ]
  patterns = [
    np.multiply.outer(np.outer(waves[0][i], waves[1][j]), channels)
    for channels, most in (((1, 1, 1), 3), ((1, -1, 0), 1), ((0, -1, 1), 1))
    for i in range(most + 1)
    for j in range(most + 1 - i)
  ]
  matrix = np.stack([(p / np.abs(p).sum()).ravel() for p in patterns], axis=1)
  matrix = matrix.astype(np.float32)
  blocks = range(0, len(colors), _BLOCK)
  parts = (colors[i : i + _BLOCK].astype(np.float32) for i in blocks)
  return np.concatenate([part @ matrix for part in parts])


def _neighbors(
  features: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yield pairs of similar features, some of them several times."""
  by_value = np.sort(features, axis=0)
  random = np.random.RandomState(0)
  for shift in np.arange(_ORDERS) / _ORDERS:
    limits = (np.arange(_CLASSES - 1) + shift + 0.5) / _CLASSES
    limits = by_value[(limits * len(features)).astype(int)]
    numbers = np.zeros(len(features), np.uint64)
    for feature in random.permutation(features.shape[1]):
      classes = np.searchsorted(limits[:, feature], features[:, feature])
      numbers = numbers * np.uint64(_CLASSES) + classes.astype(np.uint64)
    order = np.argsort(numbers, kind="stable")
    ordered = features[order]
    for distance in range(1, min(_NEIGHBORS + 1, len(order))):
      difference = np.abs(ordered[distance:] - ordered[:-distance])
      near = np.flatnonzero(difference.max(axis=1) <= _MOST_LEVELS)
      yield order[near], order[near + distance]


def _similar(
  colors: np.ndarray, first: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Return the pairs whose thumbnails are similar."""
  near = np.zeros(len(first), bool)
  for start in range(0, len(first), _BLOCK):
    part = slice(start, start + _BLOCK)
    a, b = (colors[rows[part]].astype(np.int16) for rows in (first, others))
    contrast = np.minimum(np.ptp(a, axis=1), np.ptp(b, axis=1))
    most = np.minimum(
      _THUMBNAIL_NOISE + _MOST_DIFFERENCE * contrast, _MOST_LEVELS
    )
    near[part] = np.abs(a - b).max(axis=1) <= most
  return first[near], others[near]
