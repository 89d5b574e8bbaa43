"""A look at all values of a source before they are stored: types and ranges."""

import dataclasses
from typing import NamedTuple

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
from msggan_jax.runtime.machine import map_in_order

_SAMPLE = 2**22  # values of a channel, of all images together
_SMALL, _LARGE = 1.0, 10.0  # scales that files of one unit do not both have


class _Look(NamedTuple):
  name: str  # of the image
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

  def look_at(index: int) -> _Look | dict[str, str]:
    def look(image: arrays.Values) -> _Look:
      array = arrays.checked(image, wanted.channels)
      pixels.check_size(array, wanted.size, wanted.crop)
      flat = array.reshape(-1, wanted.channels)
      some = flat[:1]
      if per_image:  # at random: every n-th might be of a few columns
        places = np.random.default_rng(index).integers(
          len(flat), size=per_image
        )
        some = flat if len(flat) <= per_image else flat[places]
      return _Look(
        source.names[index],
        array.dtype.newbyteorder("="),
        image._replace(array=some.copy()),
        np.stack([flat.min(0), flat.max(0)]).astype(np.float64),
        np.stack([(flat < low).sum(0), (flat > high).sum(0)]),
        len(flat),
      )

    found = set_writer.make_one(source, index, look)
    return found if isinstance(found, dict) else found[0]

  looks: list[_Look] = []
  rejected = []
  with progress.bar(total, "Surveying", "images", brief=True) as bar:
    for found in map_in_order(look_at, range(total)):
      bar.update()
      if isinstance(found, dict):  # the writer lists it
        rejected.append(found)
        continue
      looks.append(found)
      if found.dtype != looks[0].dtype:
        raise ValueError(
          f"{looks[0].name} has values of type {looks[0].dtype}, {found.name} "
          f"of {found.dtype}; store all in one type"
        )
  if not looks:
    raise ValueError(set_writer.describe_rejected(rejected, wanted.source))
  value_range = _range_of(asked, looks, arrays.has_neighbors(wanted.layout))
  clipped = sum(x.outside for x in looks) / sum(x.size for x in looks)
  clipped = clipped + asked.percent / 100  # without bounds nothing is outside
  found = value_range.as_dict() | {
    "clipped": clipped.tolist(),
    "source_dtype": str(looks[0].dtype),
  }
  lines = _describe(value_range, asked, clipped, looks)
  return dataclasses.replace(wanted, values=found), lines


def _range_of(
  asked: values.Wanted, looks: list[_Look], are_alike: bool
) -> values.Range:
  ends = np.stack([look.ends for look in looks])
  low, high = ends[:, 0].min(0), ends[:, 1].max(0)
  first = looks[0]
  peaks = np.abs(ends).max((1, 2))
  small, large = (0 < peaks) & (peaks <= _SMALL), peaks > _LARGE
  is_jump = (small | large | (peaks == 0)).all() and small.any() & large.any()
  if is_jump and first.dtype.kind == "f":
    a, b = small.argmax(), large.argmax()
    raise ValueError(
      f"{looks[a].name} has values up to {peaks[a]:.4g}, {looks[b].name} up to "
      f"{peaks[b]:.4g}, and none is in between: store all in one unit"
    )
  units = [first.sample.unit] * len(low)
  for i, (a, b, unit) in enumerate(asked.bounds):
    if b < low[i] or high[i] < a:
      raise ValueError(
        f"the range {a:.15g}:{b:.15g} of channel {i + 1} is outside of its "
        f"values, which are from {low[i]:.15g} to {high[i]:.15g}"
      )
    low[i], high[i], units[i] = a, b, unit or units[i]
  if asked.percent:
    shares = [asked.percent, 100 - asked.percent]
    samples = np.concatenate([look.sample.array for look in looks])
    low, high = np.percentile(samples, shares, axis=0)
  if are_alike and not asked.bounds:  # one quantity in all channels
    low[:], high[:] = low.min(), high.max()
  for i in np.flatnonzero(~(low < high)):
    above = np.where(low < high, high, low + np.maximum(1, np.abs(low)))
    pairs = (f"{a:.15g}:{b:.15g}" for a, b in zip(low, above, strict=True))
    raise ValueError(
      f"channel {i + 1} has only the value {low[i]:.15g}: give all ranges, "
      f"such as --range={','.join(pairs)}"
    )
  dtype = values.storage_of(first.dtype, low, high)
  return values.Range(
    tuple(low.tolist()), tuple(high.tolist()), tuple(units), dtype
  )


def _describe(
  value_range: values.Range,
  asked: values.Wanted,
  clipped: np.ndarray,
  looks: list[_Look],
) -> list[str]:
  count = counted(sum(look.size for look in looks), "value")
  lines = [f"range: {value_range.describe()}, of {count}"]
  if asked.percent:
    lines.append(f"clipped: about {asked.percent:g} % at each end")
  lines += [
    f"clipped of channel {i}: {below:.2%} below, {above:.2%} above"
    for i, (below, above) in enumerate(clipped.T, 1)
    if (below or above) and not asked.percent
  ]
  return [*lines, f"stored as {value_range.dtype}, from {looks[0].dtype}"]
