"""A prepared set for training, which survives single damaged images."""

import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import logging

from msggan_jax.data.prepared_set import PreparedSet, UnreadableImage
from msggan_jax.runtime import jsonl

_AT_LEAST = 3  # images, in sets whose share would be less


class LenientSet(PreparedSet):
  """A prepared set that replaces an unreadable image by the next one.

  Every process and every resumed run sees the same batches. Each unreadable
  image is logged once and recorded; too many are an error.
  """

  def __init__(self, images: PreparedSet, max_unreadable: float, record: Path):
    """Wrap a set.

    Args:
      images: The set.
      max_unreadable: Share of the images that may be unreadable, in [0, 1); if
        above 0, at least three images may be.
      record: File to which unreadable images are appended once, one JSON
        object a line; several processes may share it.

    Raises:
      ValueError: If `max_unreadable` is out of range.
    """
    if not 0 <= max_unreadable < 1:
      raise ValueError(
        f"config.dataset.max_unreadable is {max_unreadable}; choose a share of "
        "the images, from 0, less than 1"
      )
    super().__init__(images.path, images.metadata)
    self._most = int(max_unreadable * len(self))
    if max_unreadable:
      self._most = max(self._most, min(_AT_LEAST, len(self) - 1))
    self._record = record
    self._reasons: dict[int, str] = {}
    self._lock = threading.Lock()  # the loader reads in threads

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Read one image, or the next readable one, cyclically.

    Args:
      index: From 0, less than the number of images.

    Returns:
      "image": uint8, (R, R, C); "label": int32 scalar, 0 without labels.

    Raises:
      IndexError: If the index is out of range.
      ValueError: If too many images are unreadable.
      OSError: If the disk fails repeatedly: the image may be good.
    """
    number = index
    while True:
      if number not in self._reasons:
        try:
          return super().__getitem__(number)
        except UnreadableImage as error:
          self._note(number, error.reason)
      self._check()
      number = (number + 1) % len(self)

  @property
  def unreadable(self) -> list[int]:
    """Return the images found unreadable so far."""
    with self._lock:
      return sorted(self._reasons)

  def reason(self, number: int) -> str:
    """Return why an image of `unreadable` cannot be read."""
    return self._reasons[number]

  def check_unreadable(self, numbers: Iterable[int]) -> None:
    """Check that images are unreadable here, too, as in another process.

    Raises:
      ValueError: If one can be read: the processes' batches would differ from
        each other's.
    """
    for number in sorted(set(numbers) - set(self.unreadable)):
      try:
        super().__getitem__(number)
      except UnreadableImage as error:
        self._note(number, error.reason)
      else:
        raise ValueError(
          f"{self.path}: image {number} can be read here and not in another "
          "process; compare the copies of the set, or put it on a shared disk"
        )

  def _note(self, number: int, reason: str) -> None:
    with self._lock:
      if number in self._reasons:  # another thread has recorded it
        return
      self._write(number, reason)
      self._reasons[number] = reason
    logging.warning(
      "%s: image %d cannot be read (%s); the next one replaces it",
      self.path,
      number,
      reason,
    )

  def _check(self) -> None:
    count = len(self._reasons)
    if count > self._most:
      first, reason = next(iter(self._reasons.items()))
      raise ValueError(
        f"{self.path}: {count} images cannot be read, and at most {self._most} "
        f"may (config.dataset.max_unreadable), such as image {first}: {reason}"
        f"; see {self._record}, and prepare the set again"
      )

  def _write(self, number: int, reason: str) -> None:
    row = {"image": number, "reason": reason}
    if number not in {row["image"] for row in jsonl.read(self._record)}:
      self._record.parent.mkdir(parents=True, exist_ok=True)
      jsonl.append(self._record, row)
