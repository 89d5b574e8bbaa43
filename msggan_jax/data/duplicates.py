"""Find near-duplicates: the same picture, mirrored, compressed or resized.

A thumbnail of 9x8 pixels is a picture's perceptual hash. Its 64 bits, whether a
pixel is brighter than its left neighbor, find candidates (dHash); they are
near-duplicates if no color of the thumbnails differs by more than a few
levels. Sorting finds the candidates: a million pictures take minutes.
"""

import base64
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

_SIZE = (9, 8)  # columns, rows
_MOST_BITS = 3  # by which the hashes of candidates differ
_MOST_LEVELS = 12  # of 255, by which near-duplicates differ anywhere
_PARTS = 6  # of a hash; near ones agree in 3 of them at least
_BLOCK = 2**14  # pairs of thumbnails compared at a time


def thumbnail(pixels: np.ndarray) -> str:
  """Return the thumbnail of an image, uint8 (H, W, C), as text."""
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  small = image.convert("RGB").resize(_SIZE, Image.Resampling.BOX)
  return base64.b85encode(small.tobytes()).decode()


def find_groups(thumbnails: Sequence[str]) -> list[list[int]]:
  """Return the groups of two or more near-duplicates: indices, ascending.

  Near-duplicates of one image are in one group, even if they are not of each
  other.
  """
  data = b"".join(map(base64.b85decode, thumbnails))
  colors = np.frombuffer(data, np.uint8).reshape(len(thumbnails), -1)
  # Equal thumbnails are compared once.
  colors, place = np.unique(colors, axis=0, return_inverse=True)
  parents = np.arange(len(colors))

  def root(i: int) -> int:
    while parents[i] != i:
      parents[i] = parents[parents[i]]
      i = parents[i]
    return i

  for i, j in _near_pairs(np.concatenate([colors, _mirrored(colors)])):
    if i < len(colors) or j < len(colors):  # else both are mirrored
      parents[root(j % len(colors))] = root(i % len(colors))
  roots = np.array([root(i) for i in range(len(colors))])[place.ravel()]
  order = np.argsort(roots, kind="stable")
  starts = np.flatnonzero(np.diff(roots[order])) + 1
  groups = [group.tolist() for group in np.split(order, starts)]
  return sorted(group for group in groups if len(group) > 1)


def _mirrored(colors: np.ndarray) -> np.ndarray:
  """Return the thumbnails of the mirrored images."""
  columns, rows = _SIZE
  pixels = colors.reshape(-1, rows, columns, 3)
  return pixels[:, :, ::-1].reshape(colors.shape)


def _hashes(colors: np.ndarray) -> np.ndarray:
  """Return the dHash of thumbnails, uint64."""
  columns, rows = _SIZE
  levels = colors.reshape(-1, rows, columns, 3).sum(axis=-1, dtype=np.int32)
  bits = levels[:, :, 1:] > levels[:, :, :-1]
  return np.packbits(bits.reshape(len(bits), -1), axis=1).view(np.uint64)[:, 0]


def _near_pairs(colors: np.ndarray) -> Iterator[tuple[int, int]]:
  """Yield all pairs of near-duplicates, some of them several times."""
  brightness = colors.sum(axis=1, dtype=np.int32)
  by_brightness = np.argsort(brightness, kind="stable")
  hashes = _hashes(colors[by_brightness])
  most = _MOST_LEVELS * colors.shape[1]
  for parts in itertools.combinations(range(_PARTS), _PARTS - _MOST_BITS):
    keys = hashes & np.uint64(sum(map(_bits_of_part, parts)))
    places = np.argsort(keys, kind="stable")  # then by brightness
    order = by_brightness[places]
    keys, levels = keys[places], brightness[order]
    # Positions whose successor at `distance` has the same key and a close
    # brightness. The pictures between are sorted, so they have them, too.
    first = np.arange(len(order))
    for distance in itertools.count(1):
      first = first[first < len(order) - distance]
      others = first + distance
      keep = keys[first] == keys[others]
      keep &= levels[others] - levels[first] <= most
      if not keep.any():
        break
      first, others = first[keep], others[keep]
      differing = hashes[places[first]] ^ hashes[places[others]]
      near = np.bitwise_count(differing) <= _MOST_BITS
      yield from _confirmed(colors, order[first[near]], order[others[near]])


def _bits_of_part(part: int) -> int:
  """Return the bits of a hash's part, as a number."""
  first, last = (64 * i // _PARTS for i in (part, part + 1))
  return 2**last - 2**first


def _confirmed(
  colors: np.ndarray, first: np.ndarray, others: np.ndarray
) -> Iterator[tuple[int, int]]:
  for start in range(0, len(first), _BLOCK):
    i, j = (x[start : start + _BLOCK] for x in (first, others))
    difference = np.abs(colors[i].astype(np.int16) - colors[j])
    near = difference.max(axis=1) <= _MOST_LEVELS
    yield from zip(i[near].tolist(), j[near].tolist(), strict=True)
