"""A look at all values of a source before they are stored: types and ranges."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from msggan_jax.data import arrays, pixels, prepared_set, reading, values
from msggan_jax.data.set_writer import map_in_order
from msggan_jax.data.sources import Source
from msggan_jax.runtime import progress
from msggan_jax.runtime.errors import counted

_SAMPLE = 2**22  # values of a channel, of all images together
_SMALL, _LARGE = 1.0, 10.0  # scales that files of one unit do not both have


class _Look(NamedTuple):
  """What is known of an image's values."""

  name: str
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
    ValueError: If the images differ in type or scale, or if a channel has no
      value within the wanted range.
  """
  asked = values.parse(wanted.range, wanted.channels)
  total = len(source.names)
  per_image = max(_SAMPLE // total, 16) if asked.percent else 0
  low, high = np.array([x[:2] for x in asked.bounds] or [(-np.inf, np.inf)]).T

  def look(index: int) -> _Look | None:
    name = source.names[index]
    try:
      image, _ = reading.read(lambda: source.load(index), name)
      array = arrays.checked(image, wanted.channels)
    except pixels.Question as error:
      raise ValueError(f"{name}: {error}") from error
    except reading.DiskError:
      raise
    except Exception:  # the writer lists it with its reason
      return None
    flat = array.reshape(-1, wanted.channels)
    step = -(-len(flat) // per_image) if per_image else len(flat)
    return _Look(
      name,
      array.dtype.newbyteorder("="),
      image._replace(array=flat[::step].copy()),
      np.stack([flat.min(0), flat.max(0)]).astype(np.float64),
      np.stack([(flat < low).sum(0), (flat > high).sum(0)]),
      len(flat),
    )

  with progress.bar(total, "Surveying", "images", brief=True) as bar:
    looks = []
    for found in map_in_order(look, range(total)):
      bar.update()
      looks += [found] if found else []
  if not looks:
    return wanted, []  # the writer says why
  _check_alike(looks)
  return _with_range(wanted, asked, _range_of(asked, looks), looks)


def _check_alike(looks: Sequence[_Look]) -> None:
  """Raise ValueError if images differ in type, or floats in scale by a jump."""
  first = looks[0]
  for other in looks:
    if other.dtype != first.dtype:
      raise ValueError(
        f"{first.name} has values of type {first.dtype}, {other.name} of "
        f"{other.dtype}; store all in one type"
      )
  peaks = {x.name: np.abs(x.ends).max() for x in looks if x.ends.any()}
  small = [name for name, peak in peaks.items() if peak <= _SMALL]
  large = [name for name, peak in peaks.items() if peak > _LARGE]
  is_jump = small and large and len(small) + len(large) == len(peaks)
  if is_jump and first.dtype.kind == "f":
    a, b = small[0], large[0]
    raise ValueError(
      f"{a} has values up to {peaks[a]:.4g}, {b} up to {peaks[b]:.4g}, and "
      "none is in between: store all in one unit"
    )


def _range_of(asked: values.Wanted, looks: Sequence[_Look]) -> values.Range:
  low = np.min([x.ends[0] for x in looks], axis=0)
  high = np.max([x.ends[1] for x in looks], axis=0)
  units = [looks[0].sample.unit] * len(low)
  for i, (a, b, unit) in enumerate(asked.bounds):
    if b < low[i] or high[i] < a:
      raise ValueError(
        f"the range {a:g}:{b:g} of channel {i + 1} is outside of its values, "
        f"which are from {low[i]:g} to {high[i]:g}"
      )
    low[i], high[i], units[i] = a, b, unit or units[i]
  if asked.percent:
    ends = [asked.percent, 100 - asked.percent]
    sample = np.concatenate([x.sample.array for x in looks])
    low, high = np.percentile(sample, ends, axis=0)
  for i in np.flatnonzero(~(low < high)):
    raise ValueError(
      f"channel {i + 1} is {low[i]:g} everywhere: give its range, such as "
      f"--range={low[i]:g}:{low[i] + 1:g}"
    )
  dtype = values.storage_of(looks[0].dtype, low, high)
  return values.Range(
    tuple(low.tolist()), tuple(high.tolist()), tuple(units), dtype
  )


def _with_range(
  wanted: prepared_set.Metadata,
  asked: values.Wanted,
  value_range: values.Range,
  looks: Sequence[_Look],
) -> tuple[prepared_set.Metadata, list[str]]:
  size = sum(x.size for x in looks)
  clipped = np.sum([x.outside for x in looks], axis=0) / size
  lines = [f"range: {value_range.describe()}, of {counted(size, 'value')}"]
  if asked.percent:
    lines.append(f"clipped: about {asked.percent:g} % at each end")
  lines += [
    f"clipped of channel {i}: {below:.2%} below, {above:.2%} above"
    for i, (below, above) in enumerate(clipped.T, 1)
    if below or above
  ]
  lines.append(f"stored as {value_range.dtype}, from {looks[0].dtype}")
  found = value_range.as_dict() | {
    "clipped": clipped.tolist(),
    "source_dtype": str(looks[0].dtype),
    "about": {k: v for k, v in looks[0].sample.about.items() if v},
  }
  return dataclasses.replace(wanted, values=found), lines
