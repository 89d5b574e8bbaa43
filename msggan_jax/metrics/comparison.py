"""Fakes against reals: features of both, then the numbers of protocols."""

import contextlib
import dataclasses
import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from msggan_jax.data import pictures
from msggan_jax.metrics import feature_pass, folders, protocols
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.feature_pass import (
  ImagesAt,
  Passes,
  Rows,
  Statistics,
)
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Draw, Reals, read_images
from msggan_jax.models import base_grid
from msggan_jax.runtime import processes
from msggan_jax.runtime.errors import counted

_PACKAGES = ("msggan-jax", "jax", "numpy")
_BATCH_PER_DEVICE = 16
# Numbers of fakes that are compared with as many reals, by default: all reals
# would take minutes, and the few fakes bound how sure a number can be.
_FEW = range(10, 1000)


@dataclasses.dataclass
class Comparison:
  """Protocols, and the reals with their statistics and doubts."""

  protocols: Sequence[Protocol]
  reals: Reals
  passes: Passes
  num_fakes: int = 0  # of protocols without a number
  floors: dict[str, float] = dataclasses.field(default_factory=dict)
  doubts: dict[Protocol, list[str]] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def of_reals(self) -> dict[Protocol, Statistics]:
    """The reals' statistics; distances of few images are doubted."""
    of_reals = self.reals.statistics(self.protocols, self.passes)
    for protocol, statistics in of_reals.items():
      # Official draws may repeat an image.
      official = protocol.draws == "official"
      of_values = protocol.extractor == protocols.VALUES
      if of_values and not official and processes.is_first():
        self.floors |= feature_pass.floor(protocol, statistics)
      if not protocol.needs_moments:
        continue
      num_reals, dimension = statistics.shape
      if official:  # at most all of them and as many mirrored ones
        num_reals = min(num_reals, 2 * self.reals.num_images)
      num_fakes = protocol.num_fakes or self.num_fakes
      if min(num_reals, num_fakes) <= dimension:
        self.doubt(
          protocol,
          f"biased: {num_reals:,} reals and {num_fakes:,} fakes are too few "
          f"for {dimension:,} features; kid is unbiased",
        )
      has_floor = num_reals <= dimension and not official
      if has_floor and isinstance(statistics, Rows) and processes.is_first():
        self.floors |= feature_pass.floor(protocol, statistics)
    return of_reals

  def read_fakes(self, fakes_at: ImagesAt) -> dict[Protocol, Statistics]:
    """Return the fakes' statistics by protocol."""
    requests = {
      protocol: self.passes.request(
        protocol, protocol.num_fakes or self.num_fakes
      )
      for protocol in self.protocols
    }
    found = self.passes.measure(fakes_at, requests.values(), "fakes")
    return {protocol: found[request] for protocol, request in requests.items()}

  def doubt(self, protocol: Protocol, reason: str) -> None:
    """Log why a number may mislead; its provenance says it, too."""
    reasons = self.doubts.setdefault(protocol, [])
    if reason not in reasons:
      reasons.append(reason)
      logging.warning("%s: %s", protocol.name, reason)

  def provenance(self) -> dict[str, Any]:
    """Return where numbers come from: protocols, weights and versions."""
    extractors = self.passes.extractors
    used = dict.fromkeys(protocol.extractor for protocol in self.protocols)
    bands = ",".join(str(band + 1) for band in self.passes.bands or ())
    return {
      **({"bands": bands} if bands else {}),
      "weights_hash": {x: extractors[x].weights_hash for x in used},
      "protocols": {
        p.name: "; ".join((p.describe(), *self.doubts.get(p, ())))
        for p in self.protocols
      },
      "versions": {x: importlib.metadata.version(x) for x in _PACKAGES},
    }


def compare(
  reals: str,
  fakes: str,
  extractors: Extractors,
  names: str | Sequence[str] = "",
  *,
  data_dir: str = "data",
  bands: str = "",
  progress: bool = False,
) -> tuple[dict[str, float], dict[str, Any]]:
  """Return metrics of two folders, zip files or prepared sets, and provenance.

  The fakes are of one size. Real photos of other sizes are prepared at it in
  `data_dir`, and a larger prepared set is averaged like training's pyramid.
  Without names, sets of values have the defaults of values, and few fakes only
  a kernel distance. Feature networks see `bands` of values.
  """
  channels = folders.channels_of_values(reals, fakes)
  if bands and not channels:
    raise ValueError(f"bands is {bands!r}, but {reals} holds no values")
  extractors.check_names(names)
  parsed = _parse(names, extractors, channels, bands) if names else []
  with contextlib.ExitStack() as stack:
    fake_images = folders.open_images(fakes, stack)
    resolution = base_grid.resolution_of(*fake_images.only_size())
    count = fake_images.reals.num_images
    if not names:
      names = _default_names(extractors, channels, count)
      parsed = _parse(names, extractors, channels, bands)
    for protocol in parsed:
      _check_number(protocol, fakes, count, protocol.num_fakes or 0)
    real_images = folders.open_reals(reals, fake_images, data_dir, stack)
    for protocol in parsed:
      _check_number(protocol, reals, real_images.reals.num_images)
    batch_size = _BATCH_PER_DEVICE * jax.local_device_count()
    passes = Passes(extractors, resolution, batch_size, progress)
    if channels:
      passes.bands = pictures.parse_bands(bands, channels)
    comparison = Comparison(parsed, real_images.reals, passes, count)
    # They may be in order of class, and `is` is a mean over parts.
    draw = Draw.shuffled(count)
    of_fakes = comparison.read_fakes(
      read_images(fake_images.reals.read, {resolution}, draw)
    )
    of_reals, values = comparison.of_reals, {}
    for protocol, statistics in of_fakes.items():
      reals_of = of_reals.get(protocol)
      values |= feature_pass.compute(protocol, reals_of, statistics)
    return values | comparison.floors, {
      "data_hash": real_images.content_hash(),
      "fakes_hash": fake_images.content_hash(),
      **comparison.provenance(),
    }


def _check_number(
  protocol: Protocol, path: str, there: int, wanted: int = 0
) -> None:
  needed = max(wanted, protocol.least_images)
  if there < needed:
    raise ValueError(
      f"{protocol.name} needs {counted(needed, 'image')}, and {path} has only "
      f"{there:,}"
    )


def _default_names(
  extractors: Extractors, channels: int, count: int
) -> list[str]:
  if channels:
    return protocols.defaults_of_values(channels)
  if count in _FEW:
    return protocols.defaults(extractors.has_inception, str(count))[1:]
  return protocols.defaults(extractors.has_inception)


def _parse(
  names: str | Sequence[str], extractors: Extractors, channels: int, bands: str
) -> list[Protocol]:
  parsed = protocols.parse(names, extractors.names)
  for protocol in parsed:
    official = protocol.draws == "official"
    if official or protocol.per_class or protocol.kind == "copying":
      raise ValueError(f"{protocol.name}: only a run has it, not two folders")
    if protocol.resolution:
      raise ValueError(f"{protocol.name}: folders have no scales")
    feature_pass.check(protocol, extractors)
    feature_pass.check_channels(protocol, channels, bands)
  return parsed
