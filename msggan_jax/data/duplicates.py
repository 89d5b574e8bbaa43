"""Find near-duplicates: the same picture, mirrored, compressed or resized.

A thumbnail of 9x8 pixels is a picture's perceptual hash. Its 64 bits, whether a
pixel is brighter than its left neighbour, find candidates (dHash); they are
near-duplicates if no colour of the thumbnails differs by more than a few
levels.
"""

import base64
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

_SIZE = (9, 8)  # columns, rows
_MOST_BITS = 3  # by which the hashes of candidates differ
_MOST_LEVELS = 12  # of 255, by which near-duplicates differ anywhere
_BLOCK = 2**22  # pairs of hashes compared at a time


def thumbnail(pixels: np.ndarray) -> str:
  """Return the thumbnail of an image, as text.

  Args:
    pixels: uint8, (R, R, C) with C = 1, 3 or 4.
  """
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  small = image.convert("RGB").resize(_SIZE, Image.Resampling.BOX)
  return base64.b85encode(small.tobytes()).decode()


def find_groups(thumbnails: Sequence[str]) -> list[list[int]]:
  """Return the groups of near-duplicates.

  Near-duplicates of one image are in one group, even if they are not of each
  other.

  Args:
    thumbnails: As `thumbnail` returns them.

  Returns:
    Indices of two or more images each, ascending.
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
  hashes = _hashes(colors)
  # Hashes that differ by at most 3 bits agree in one of four bands.
  for band in hashes.view(np.uint16).reshape(-1, _MOST_BITS + 1).T:
    order = np.argsort(band, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
      rows = max(1, _BLOCK // len(same))
      for start in range(0, len(same), rows):
        first, others = same[start : start + rows], same[start + 1 :]
        differing = np.bitwise_count(hashes[first, None] ^ hashes[None, others])
        i, j = np.nonzero(differing <= _MOST_BITS)
        first, others = first[i], others[j]
        keep = j >= i
        yield from _confirmed(colors, first[keep], others[keep])


def _confirmed(
  colors: np.ndarray, first: np.ndarray, others: np.ndarray
) -> Iterator[tuple[int, int]]:
  rows = _BLOCK // 256
  for start in range(0, len(first), rows):
    i, j = (x[start : start + rows] for x in (first, others))
    difference = np.abs(colors[i].astype(np.int16) - colors[j])
    near = difference.max(axis=1) <= _MOST_LEVELS
    yield from zip(i[near].tolist(), j[near].tolist(), strict=True)
