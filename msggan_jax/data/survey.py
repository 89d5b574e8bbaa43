"""A look at all values of a source before they are stored: types and ranges."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from msggan_jax.data import (
  arrays,
  pixels,
  prepared_set,
  set_writer,
  values,
)
from msggan_jax.data.sources import Source
from msggan_jax.runtime import progress
from msggan_jax.runtime.errors import counted

_SAMPLE = 2**22  # values of a channel, of all images together
_SMALL, _LARGE = 1.0, 10.0  # scales that files of one unit do not both have


class _Look(NamedTuple):
  """The type, the ends and a sample of an image's values."""

  dtype: np.dtype
  sample: arrays.Values  # some values, (N, C)
  ends: np.ndarray  # the least and the largest of each channel, (2, C)
  outside: np.ndarray  # values below and above the wanted range, (2, C)
  size: int  # values of a channel


def survey(
  source: Source, wanted: prepared_set.Metadata
) -> tuple[prepared_set.Metadata, list[str]]:
  """Return a set's metadata with its range, and lines about it.

  Raises:
    ValueError: If the images differ in type or scale, if none is usable, or if
      a channel has no value within the wanted range.
  """
  asked = values.parse(wanted.range, wanted.channels)
  total = len(source.names)
  per_image = max(_SAMPLE // total, 16) if asked.percent else 0
  low, high = np.array([x[:2] for x in asked.bounds] or [(-np.inf, np.inf)]).T

  def look(image: arrays.Values) -> _Look:
    array = arrays.checked(image, wanted.channels)
    pixels.check_size(array, wanted.size, wanted.crop)
    flat = array.reshape(-1, wanted.channels)
    step = -(-len(flat) // per_image) if per_image else len(flat)
    return _Look(
      array.dtype.newbyteorder("="),
      image._replace(array=flat[::step].copy()),
      np.stack([flat.min(0), flat.max(0)]).astype(np.float64),
      np.stack([(flat < low).sum(0), (flat > high).sum(0)]),
      len(flat),
    )

  def look_at(index: int) -> tuple[_Look, int] | dict[str, str]:
    return set_writer.make_one(source, index, look)

  seen, rejected = _Seen(), []
  with progress.bar(total, "Surveying", "images", brief=True) as bar:
    for index, found in enumerate(
      set_writer.map_in_order(look_at, range(total))
    ):
      bar.update()
      if isinstance(found, dict):  # the writer lists it
        rejected.append(found)
      else:
        seen.add(source.names[index], found[0])
  if not seen.size:
    raise ValueError(set_writer.describe_rejected(rejected, wanted.source))
  seen.check_scale()
  return _with_range(wanted, asked, seen)


class _Seen:
  """The values of all images so far; `first` are those of the first one."""

  def __init__(self):
    self.first: Any = None
    self._first_name = ""
    self.samples: list[np.ndarray] = []
    self.outside: Any = 0
    self.size = 0
    # The first image with values of each scale: its name and largest value.
    self._scales: dict[str, tuple[str, float]] = {}

  def add(self, name: str, look: _Look) -> None:
    """Add an image; raise ValueError if its type differs from the first's."""
    if not self.size:
      self._first_name, self.first = name, look
      self.low, self.high = look.ends
    if look.dtype != self.first.dtype:
      raise ValueError(
        f"{self._first_name} has values of type {self.first.dtype}, {name} of "
        f"{look.dtype}; store all in one type"
      )
    self.low = np.minimum(self.low, look.ends[0])
    self.high = np.maximum(self.high, look.ends[1])
    self.outside = self.outside + look.outside
    self.size += look.size
    self.samples.append(look.sample.array)
    if peak := np.abs(look.ends).max():
      scale = "small" if peak <= _SMALL else "large"
      scale = scale if not _SMALL < peak <= _LARGE else "between"
      self._scales.setdefault(scale, (name, peak))

  def check_scale(self) -> None:
    """Raise ValueError if some images of floats are far larger than others."""
    is_jump = self._scales.keys() == {"small", "large"}
    if is_jump and self.first.dtype.kind == "f":
      (a, low), (b, high) = (self._scales[x] for x in ("small", "large"))
      raise ValueError(
        f"{a} has values up to {low:.4g}, {b} up to {high:.4g}, and none is in "
        "between: store all in one unit"
      )


def _range_of(asked: values.Wanted, seen: _Seen) -> values.Range:
  low, high = seen.low, seen.high
  units = [seen.first.sample.unit] * len(low)
  for i, (a, b, unit) in enumerate(asked.bounds):
    if b < low[i] or high[i] < a:
      raise ValueError(
        f"the range {a:g}:{b:g} of channel {i + 1} is outside of its values, "
        f"which are from {low[i]:g} to {high[i]:g}"
      )
    low[i], high[i], units[i] = a, b, unit or units[i]
  if asked.percent:
    ends = [asked.percent, 100 - asked.percent]
    low, high = np.percentile(np.concatenate(seen.samples), ends, axis=0)
  for i in np.flatnonzero(~(low < high)):
    pairs = zip(low, np.where(low < high, high, low + 1), strict=True)
    raise ValueError(
      f"channel {i + 1} has only the value {low[i]:g}: give all ranges, such "
      f"as --range={','.join(f'{a:g}:{b:g}' for a, b in pairs)}"
    )
  dtype = values.storage_of(seen.first.dtype, low, high)
  return values.Range(
    tuple(low.tolist()), tuple(high.tolist()), tuple(units), dtype
  )


def _with_range(
  wanted: prepared_set.Metadata, asked: values.Wanted, seen: _Seen
) -> tuple[prepared_set.Metadata, list[str]]:
  value_range, first = _range_of(asked, seen), seen.first
  clipped = seen.outside / seen.size
  lines = [f"range: {value_range.describe()}, of {counted(seen.size, 'value')}"]
  if asked.percent:
    lines.append(f"clipped: about {asked.percent:g} % at each end")
  lines += [
    f"clipped of channel {i}: {below:.2%} below, {above:.2%} above"
    for i, (below, above) in enumerate(clipped.T, 1)
    if below or above
  ]
  lines.append(f"stored as {value_range.dtype}, from {first.dtype}")
  found = value_range.as_dict() | {
    "clipped": clipped.tolist(),
    "source_dtype": str(first.dtype),
    "about": {k: v for k, v in first.sample.about.items() if v},
  }
  return dataclasses.replace(wanted, values=found), lines
