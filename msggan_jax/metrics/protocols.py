"""Protocols by name: metric, images, feature network (docs/evaluation.md)."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The kinds that need no feature network, and their numbers.
_OF_VALUES = {
  "spectrum": "RMS difference of the radial power spectra in dB",
  "histogram": (
    "Wasserstein distance of each channel's values, and of their 0.1 % tails, "
    "in shares of the range"
  ),
  "correlation": "largest difference of two channels' correlation",
}

INCEPTION = "inception"
EFFICIENTNET = "efficientnet_lite0"
VALUES = "values"  # no network: `value_statistics.py`


@dataclasses.dataclass(frozen=True)
class Protocol:
  """The recipe of a number.

  `draws` chooses the reals: "full": every one once; "official": as many as
  fakes, as training draws them: shuffled, cycled, mirrored if it mirrors; "":
  as many as fakes at random, every one at most once.
  """

  name: str
  # fid, fd, kid, is, pr, copying, spectrum, histogram or correlation
  kind: str
  extractor: str
  num_fakes: int | None  # None: all
  draws: str
  resolution: int | None  # of the scale; None: the largest
  per_class: bool = False  # a number for each class

  @property
  def is_frechet(self) -> bool:
    """Whether it is a Frechet distance, biased for few images."""
    return self.kind in ("fid", "fd")

  @property
  def needs_moments(self) -> bool:
    """Whether moments are enough: of a Frechet distance of all images."""
    return self.is_frechet and not self.per_class

  @property
  def least_images(self) -> int:
    """Number of reals, and of fakes, without which there is no number."""
    return {"fid": 2, "fd": 2, "kid": 2, "pr": 4}.get(self.kind, 1)

  @property
  def higher_is_better(self) -> bool:
    """Whether a higher number is better."""
    return self.kind in ("is", "pr")

  @property
  def main_value(self) -> str:
    """Name of the number that decides which of two generators is better."""
    return f"{self.name}_precision" if self.kind == "pr" else self.name

  def describe(self) -> str:
    """Return the recipe in words."""
    fakes = f"{self.num_fakes:,}" if self.num_fakes else "all"
    reals = {
      "full": "all reals once, not mirrored",
      "official": "as many reals as training draws them",
      "": "as many reals at random, not mirrored",
    }[self.draws or ("" if self.num_fakes else "full")]
    against = "" if self.kind == "is" else f" against {reals}"
    if self.kind == "copying":
      against = " against all training images and the hold-out, with mirrored "
      against += "ones if training mirrors"
    if self.per_class:
      against += ", for each class"
    what = f"features of {self.extractor}"
    if self.extractor == VALUES:
      what = f"{_OF_VALUES[self.kind]}; floor: halves of the reals"
    return f"{fakes} fakes{against}; {what}"


def parse(
  names: str | Sequence[str], extractors: Sequence[str]
) -> list[Protocol]:
  """Parse names of protocols, a list or text with commas."""
  if isinstance(names, str):
    names = names.split(",")
  others = "|".join(re.escape(e) for e in extractors if e != INCEPTION)
  pattern = re.compile(
    rf"(?P<kind>fid|fd|kid|is|pr|copying|{'|'.join(_OF_VALUES)})"
    rf"(?:(?<!fid)_(?P<extractor>{others})(?=_|/|$)_?|(?<!fd))"
    r"(?:(?P<count>[1-9]\d*)(?P<thousands>k?))?"
    r"(?:_(?P<draws>full|official))?(?P<per_class>_per_class)?"
    r"(?:/(?P<resolution>\d+))?"
  )
  return [_parse_one(name.strip(), pattern) for name in names]


def defaults(has_inception: bool, count: str = "") -> list[str]:
  """Return default names for so many fakes, such as "10k"; "": all."""
  against = "_full" if count else ""
  if has_inception:
    return [f"fid{count}{against}", f"kid{count}"]
  ending = f"{EFFICIENTNET}_{count}" if count else EFFICIENTNET
  return [f"fd_{ending}{against}", f"kid_{ending}"]


def defaults_of_values(
  channels: int, scales: Sequence[int] = (), count: str = ""
) -> list[str]:
  """Return default names for values, of the largest scale and of others."""
  kinds = [kind for kind in _OF_VALUES if channels > 1 or kind != "correlation"]
  against = "_full" if count else ""
  names = [f"{kind}{count}{against}" for kind in kinds]
  return names + [f"{names[0]}/{scale}" for scale in scales]


def rows_like(
  rows: Iterable[Mapping[str, Any]], protocol: Protocol, like: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
  """Return the last row of each step that has a protocol's number, in order.

  Rows of other data, bands or extractor weights than `like` are skipped.
  """

  def has_number(row: Mapping[str, Any]) -> bool:
    value = row.get(protocol.main_value)
    return isinstance(value, int | float) and math.isfinite(value)

  made = _made_of(like, protocol)
  same = (row for row in rows if _made_of(row, protocol) == made)
  by_step = {row["step"]: row for row in filter(has_number, same)}
  return [by_step[step] for step in sorted(by_step)]


def best_row(
  rows: Iterable[Mapping[str, Any]], protocol: Protocol, like: Mapping[str, Any]
) -> Mapping[str, Any] | None:
  """Return the best of `rows_like`, the first of equally good ones, or None."""
  sign = -1 if protocol.higher_is_better else 1
  alike = rows_like(rows, protocol, like)
  return min(
    alike, key=lambda row: sign * row[protocol.main_value], default=None
  )


def _parse_one(name: str, pattern: re.Pattern) -> Protocol:
  match = pattern.fullmatch(name)
  if not match:
    raise ValueError(
      f"there is no metric {name!r}; write such as fid50k_full, "
      "fid50k_official, kid50k_full, is50k, pr50k_full, fid50k_full/64 or "
      f"fd_{EFFICIENTNET}_10k_full"
    )
  kind, count = match["kind"], match["count"]
  if kind in ("is", "copying") and (match["draws"] or match["per_class"]):
    raise ValueError(f"{name}: {kind} has no _full, _official or _per_class")
  if kind in _OF_VALUES and (match["extractor"] or match["per_class"]):
    raise ValueError(f"{name}: {kind} has no feature network and no _per_class")
  thousands = 1000 if match["thousands"] else 1
  return Protocol(
    name=name,
    kind=kind,
    extractor=VALUES if kind in _OF_VALUES else match["extractor"] or INCEPTION,
    num_fakes=int(count) * thousands if count else None,
    draws=match["draws"] or ("full" if kind == "copying" else ""),
    resolution=int(match["resolution"]) if match["resolution"] else None,
    per_class=bool(match["per_class"]),
  )


def _made_of(row: Mapping[str, Any], protocol: Protocol) -> tuple[Any, ...]:
  """Return a row's data, the bands that a network saw, and its weights."""
  weights = row.get("weights_hash", {}).get(protocol.extractor)
  bands = None if protocol.extractor == VALUES else row.get("bands")
  return row.get("data_hash"), bands, weights
