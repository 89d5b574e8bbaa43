"""The hold-out: images of a prepared set that training never sees."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msggan_jax.runtime.errors import counted

TRAIN = "train"  # the part of a set whose other one is "holdout"

_FILE = "holdout.json"


def check(size: float, num_images: int) -> None:
  """Check a hold-out's size: a share below 1, or a number; 0: none."""
  if not 0 <= size < 2**31 or (size >= 1 and size != int(size)):
    raise ValueError(
      f"dataset.holdout is {size:g}; choose a share below 1, or a whole number "
      "of images"
    )
  if size and not 1 <= count(size, num_images) < num_images:
    raise ValueError(
      f"dataset.holdout is {size:g}, but the set has "
      f"{counted(num_images, 'image')}; choose a share or number that leaves "
      "images on both sides"
    )


def choose(
  size: float, digests: Sequence[str], groups: Sequence[Sequence[int]]
) -> list[int]:
  """Choose the held-out images by their digests alone; groups stay together.

  Returns indices, ascending; fewer than asked for where groups do not fit.
  """
  check(size, len(digests))
  if not size:
    return []
  grouped = {i for group in groups for i in group}
  units = [[i] for i in range(len(digests)) if i not in grouped] + [*groups]
  units.sort(key=lambda unit: _shuffled(min(digests[i] for i in unit)))
  left = count(size, len(digests))
  chosen = []
  for unit in units:
    if len(unit) <= left:
      chosen += unit
      left -= len(unit)
  if not chosen:
    raise ValueError(
      f"dataset.holdout is {size:g}, but the images are near-duplicates of "
      "each other, or groups by dataset.group_by, which stay together; choose "
      "more, or 0"
    )
  return sorted(chosen)


def by_pattern(pattern: str, names: Sequence[str]) -> list[list[int]]:
  r"""Return the groups of images whose names match a pattern alike.

  What counts is the first group that has a part in the match, such as a
  patient's number in p(\d+)_, or the match if there is none.
  """
  alike: dict[Any, list[int]] = {}
  for i, name in enumerate(names):
    match = re.search(pattern, name)
    if not match:
      raise ValueError(
        f"dataset.group_by is {pattern!r}, which {name} does not match"
      )
    parts = ((n, x) for n, x in enumerate(match.groups()) if x is not None)
    alike.setdefault(next(parts, match[0]), []).append(i)
  return list(alike.values())


def write(path: Path, images: Sequence[int]) -> None:
  """Record the held-out images of a set."""
  (path / _FILE).write_text(json.dumps({"images": list(images)}) + "\n")


def read(path: Path) -> np.ndarray:
  """Return the held-out images' indices."""
  try:
    return np.array(json.loads((path / _FILE).read_bytes())["images"], np.int64)
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise ValueError(
      f"{path / _FILE} is missing or damaged; prepare the set again"
    ) from error


def hash_of_part(content_hash: str, images: np.ndarray) -> str:
  """Return the content hash of some images of a set."""
  state = hashlib.sha256(content_hash.encode())
  state.update(images.astype("<i8").tobytes())
  return state.hexdigest()


def count(size: float, num_images: int) -> int:
  """Return the number of held-out images."""
  return int(size) if size >= 1 else round(size * num_images)


def _shuffled(digest: str) -> str:
  # Another order than the digests', which are those of the content hash.
  return hashlib.sha256(f"hold-out {digest}".encode()).hexdigest()
