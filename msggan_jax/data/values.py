"""The range of a set's values, and the map from values to stored numbers.

A set of pictures has none: its bytes are colors. Any other set stores values of
a unit, between a low and a high one for each channel, as uint8, uint16 or
float32. All of them become [-1, 1] in `models.pyramid.to_float`.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from msggan_jax.data import reading

AUTO = "auto"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ONE = re.compile(rf"\s*({_NUMBER}):({_NUMBER})\s*([^\d\s.,:][^,:]*)?")
_LONGEST_UNIT = 20  # characters
_LEVELS = {"uint8": 255, "uint16": 65535, "float32": 0}  # the highest stored


@dataclasses.dataclass(frozen=True)
class Range:
  """The values of each channel that -1 and 1 mean, and how they are stored."""

  low: tuple[float, ...]
  high: tuple[float, ...]
  units: tuple[str, ...]  # such as "HU"; "" if it is not known
  dtype: str = "float32"  # of the stored arrays: uint8, uint16 or float32

  def store(self, values: np.ndarray) -> np.ndarray:
    """Map values, (..., C), to stored ones; those outside are clipped."""
    return self.quantize(self.shares(values))

  def shares(self, values: np.ndarray) -> np.ndarray:
    """Map values, (..., C), to 0 at the low and 1 at the high end; float32."""
    low, high = np.array(self.low), np.array(self.high)
    made = np.empty(values.shape, np.float32)
    # In float64 by rows; a whole large image would take gigabytes.
    for row, shares in zip(values, made, strict=True):
      np.clip((row - low) / (high - low), 0.0, 1.0, out=shares)
    return made

  def quantize(self, shares: np.ndarray) -> np.ndarray:
    """Map what `shares` returns to stored values."""
    if self.dtype == "float32":
      return (2 * shares - 1).astype(np.float32)
    return np.rint(_LEVELS[self.dtype] * shares).astype(self.dtype)

  def restore(self, images: np.ndarray) -> np.ndarray:
    """Map a model's images in [-1, 1], (..., C), to values.

    The inverse of `store` and `to_float`; images outside are clipped. float32,
    or float64 if its digits are too few for a range far from zero.
    """
    low, high = np.array(self.low), np.array(self.high)
    share = (np.clip(np.asarray(images, np.float64), -1, 1) + 1) / 2
    values = low + share * (high - low)
    # Of 24 bits, the offset leaves 18 for the range.
    far = np.maximum(np.abs(low), np.abs(high)) > 64 * (high - low)
    return values if far.any() else values.astype(np.float32)

  def agrees(self, other: "Range") -> bool:
    """Return whether both mean one scale: to 7 digits, if both know a unit."""
    sides = ([x.low, x.high] for x in (self, other))
    units = zip(self.units, other.units, strict=True)
    return (
      len(self.low) == len(other.low)
      and all(
        not ours or not theirs or ours == theirs for ours, theirs in units
      )
      and np.allclose(*sides, rtol=1e-6, atol=0)
    )

  def describe(self) -> str:
    """Return the range in words, shortly if all channels share it."""
    parts = [
      f"{low:.7g} to {high:.7g} {unit}".rstrip()
      for low, high, unit in zip(self.low, self.high, self.units, strict=True)
    ]
    if len(set(parts)) == 1:
      return parts[0]
    return reading.listed(f"channel {i}: {x}" for i, x in enumerate(parts, 1))

  def as_dict(self) -> dict[str, Any]:
    """Return it as JSON has it."""
    return dataclasses.asdict(self)


def describe(value_range: Range | None) -> str:
  """Return the range of a set in words; None: of pictures."""
  return value_range.describe() if value_range else "colors"


def from_dict(fields: Any, channels: int) -> Range | None:
  """Read a range from JSON, perhaps somebody else's; None if it is not one."""
  try:
    low, high = (tuple(map(float, fields[name])) for name in ("low", "high"))
    units = tuple(str(unit)[:_LONGEST_UNIT] for unit in fields["units"])
    made = Range(low, high, units, str(fields["dtype"]))
  except (KeyError, TypeError, ValueError, OverflowError):
    return None
  is_whole = len(low) == len(high) == len(units) == channels
  if not is_whole or made.dtype not in _LEVELS:
    return None
  pairs = zip(low, high, strict=True)
  is_range = all(-math.inf < a < b < math.inf for a, b in pairs)
  are_texts = all(unit.isprintable() for unit in units)
  return made if is_range and are_texts else None


@dataclasses.dataclass(frozen=True)
class Wanted:
  """A range as it is asked for: bounds, or how to find them in the values."""

  bounds: Sequence[tuple[float, float, str]] = ()  # empty: auto
  percent: float = 0.0  # of the values that auto leaves out at each end


def parse(text: str, channels: int) -> Wanted:
  """Parse "LOW:HIGH", one for each channel with commas, or "auto[:PERCENT]"."""
  kind, _, percent = text.partition(":")
  if kind == AUTO:
    if percent and not re.fullmatch(_NUMBER, percent):
      raise ValueError(
        f"range is {text!r}; choose such as auto:0.1, in percent"
      )
    wanted = Wanted(percent=float(percent or 0))
    if not 0 <= wanted.percent < 50:
      raise ValueError(f"range is {text!r}; choose less than 50 percent")
    return wanted
  matches = [_ONE.fullmatch(part) for part in text.split(",")]
  if not all(matches):
    raise ValueError(
      f"range is {text!r}; choose LOW:HIGH with a unit or without, such as "
      "-1000:3000HU, one for each channel with commas, or auto"
    )
  bounds = [
    (float(m[1]), float(m[2]), (m[3] or "").strip()[:_LONGEST_UNIT])
    for m in matches
    if m
  ]
  for low, high, _ in bounds:
    if not -math.inf < low < high < math.inf:
      raise ValueError(
        f"range is {text!r}: {high:.15g} is not above {low:.15g}"
      )
  if len(bounds) not in (1, channels):
    raise ValueError(
      f"range is {text!r}, which is {len(bounds)} ranges; choose one, or one "
      f"for each of the {channels} channels"
    )
  return Wanted(bounds * channels if len(bounds) == 1 else bounds)


def window(text: str) -> str:
  """Return the range of a window of CT, "WIDTH:LEVEL" in HU."""
  match = re.fullmatch(rf"({_NUMBER}):({_NUMBER})", text)
  if not match or not 0 < float(match[1]) < math.inf:
    raise ValueError(f"window is {text!r}; choose WIDTH:LEVEL, such as 400:40")
  width, level = float(match[1]), float(match[2])
  return f"{level - width / 2:.15g}:{level + width / 2:.15g}HU"


def storage_of(dtype: np.dtype, low: Sequence, high: Sequence) -> str:
  """Return the least storage that holds values of a type within bounds."""
  span = max(b - a for a, b in zip(low, high, strict=True))
  if dtype.kind in "iu" and dtype.itemsize == 1 and span <= 255:
    return "uint8"
  return "uint16" if dtype.kind in "iu" and span <= 65535 else "float32"
