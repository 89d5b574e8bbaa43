"""Metrics of a generator, during training and afterwards."""

import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msggan_jax import data
from msggan_jax.algorithm import growth
from msggan_jax.checkpoints import trained
from msggan_jax.data import pictures, prepared_set, reading
from msggan_jax.metrics import (
  agreement,
  copying,
  feature_pass,
  protocols,
  value_statistics,
)
from msggan_jax.metrics.comparison import Comparison
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.feature_pass import ImagesAt, Passes, Rows
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Reals
from msggan_jax.models import networks
from msggan_jax.models.pyramid import connected_scales, quantize
from msggan_jax.runtime import processes, sharding

_SEED = 0  # of the fakes: the same latents for every run and step
_FEWEST = 10  # reals and fakes of a class; rarer classes are skipped
_LEAST_SPECTRUM = 8  # of the scales whose spectrum is a default
_HAVE_TEST = ("cats", "earth")  # of the demo: a split that is a hold-out


def choose(config: ConfigDict) -> tuple[Extractors, list[str]]:
  """Return a run's extractors and the names of its metrics.

  Raises ValueError for metrics that do not fit the run, and FileNotFoundError
  if named ones lack their weights: both before a set is prepared.
  """
  extractors = Extractors(
    config.inception_path, config.extractor, config.extractor_precision
  )
  count = "50k" if extractors.has_inception else "10k"
  names = protocols.defaults(extractors.has_inception, count)
  if config.dataset.get("range", ""):
    scales = connected_scales(config.resolution, config.connected_scales)
    smaller = [r for r in scales if _LEAST_SPECTRUM <= r < config.resolution]
    names = protocols.defaults_of_values(config.channels, smaller, "10k")
  extractors.check_names(config.metrics)
  if config.metrics:
    names = config.metrics.split(",")
  needs_weights = config.metrics or config.inception_path
  dataset = config.dataset
  may_have_holdout = dataset.get("holdout", 0) or (
    dataset.name == "folder" and prepared_set.is_prepared(Path(dataset.path))
  )
  for protocol in protocols.parse(names, extractors.names):
    _check_fit(protocol, config, bool(may_have_holdout))
    if config.eval_kimg and needs_weights:
      feature_pass.check(protocol, extractors)
  return extractors, names


def _check_fit(
  protocol: Protocol, config: ConfigDict, has_holdout: bool
) -> None:
  """Raise ValueError if a run of a configuration has no such number."""
  name, of = protocol.name, config.dataset
  channels = config.channels if of.get("range", "") else 0
  feature_pass.check_channels(protocol, channels, config.get("bands", ""))
  if protocol.num_fakes is None:
    raise ValueError(f"{name}: add the number of fakes, such as 10k or 50k")
  scales = connected_scales(config.resolution, config.connected_scales)
  if protocol.resolution not in (None, *scales):
    raise ValueError(
      f"{name}: this generator has the scales {', '.join(map(str, scales))}"
    )
  has_holdout |= of.name in _HAVE_TEST and of.split == "train"
  if protocol.kind == "copying" and not has_holdout:
    raise ValueError(
      f"{name}: the data set has no hold-out; set config.dataset.holdout, such "
      "as 0.1, in a new run"
    )
  if protocol.per_class and not config.num_classes:
    raise ValueError(
      f"{name}: the generator is unconditional: config.num_classes is 0"
    )


def make_evaluator(
  config: ConfigDict,
  prepared: data.PreparedSet,
  extractors: Extractors,
  names: Sequence[str],
) -> "Evaluator | None":
  """Return the evaluator of a run's metrics, those that `choose` returns.

  None without `eval_kimg`, or if no metrics are named and the default ones'
  weights are missing.
  """
  if not config.eval_kimg:
    return None
  try:
    # A bar on a terminal; log files have the run's own lines.
    has_bar = sys.stderr.isatty()
    return Evaluator(config, prepared, extractors, names, progress=has_bar)
  except FileNotFoundError:
    if config.metrics or config.inception_path:
      raise
    return None


class Evaluator:
  """Computes metrics of a generator's weights, always of the same latents."""

  def __init__(
    self,
    config: ConfigDict,
    prepared: data.PreparedSet,
    extractors: Extractors,
    names: str | Sequence[str],
    *,
    progress: bool = False,
  ):
    """Check the named protocols; the first decides which checkpoint is best.

    One that is unknown or does not fit the run raises ValueError, missing
    weights FileNotFoundError.
    """
    self._config = config
    self._prepared = prepared
    self._scales = connected_scales(config.resolution, config.connected_scales)
    self.protocols = protocols.parse(names, extractors.names)
    self.sheets: dict[str, np.ndarray] = {}
    self._of_holdout: dict[Protocol, Rows] = {}
    self._of_stages: dict[int, Evaluator] = {}
    self._network = networks.make_generator(config)
    self._mesh = sharding.make_mesh(jax.local_devices())
    # A batch's largest activation is at most 270 MB a device.
    per_device = max(1, min(16, 4096 // config.resolution))
    self._batch_size = per_device * self._mesh.size
    self._passes = Passes(
      extractors, config.resolution, self._batch_size, progress
    )
    self._bands = config.get("bands", "")
    if prepared.metadata.values:
      chosen = pictures.parse_bands(self._bands, config.channels)
      self._passes.bands = chosen
    reals = Reals.of(prepared, config.mirror)
    self._comparison = Comparison(self.protocols, reals, self._passes)
    for protocol in self.protocols:
      self._check(protocol)

  def at(self, resolution: int) -> "Evaluator":
    """Return the evaluator of a growing run's stage, at its own scale."""
    if resolution == self._config.resolution:
      return self
    if resolution not in self._of_stages:
      bases = dict.fromkeys(p.name.partition("/")[0] for p in self.protocols)
      self._of_stages[resolution] = Evaluator(
        growth.stage(self._config, resolution),
        self._prepared,
        self._passes.extractors,
        [f"{base}/{resolution}" for base in bases],
        progress=self._passes.has_bar,
      )
    return self._of_stages[resolution]

  def evaluate(
    self,
    params: Any,
    state: Any,
    after_batch: Callable[[], None] = lambda: None,
  ) -> dict[str, float]:
    """Compute the numbers of replicated EMA weights, by name; a call of all.

    `after_batch` may raise to end the evaluation.
    """
    comparison = self._comparison
    self._passes.after_batch = after_batch
    of_reals = comparison.of_reals
    self._read_holdout()
    fakes_at = self._fakes_at(params, state)
    of_fakes = comparison.read_fakes(fakes_at)
    values = {}
    self.sheets = {}
    if processes.is_first():
      for protocol, fakes in of_fakes.items():
        reals = of_reals.get(protocol)
        if protocol.per_class:
          values |= self._per_class(protocol, reals, fakes)
        elif protocol.kind == "copying":
          values |= self._copying(protocol, reals, fakes, fakes_at)
        else:
          values |= feature_pass.compute(protocol, reals, fakes)
        if protocol.kind in value_statistics.PLOTTED:
          self.sheets[protocol.name] = value_statistics.plot(
            protocol.kind, reals.array, fakes.array, self._config.channels
          )
      values |= comparison.floors
      values |= self._agreement(fakes_at)
    return processes.from_first(values)

  def write_sheets(self, workdir: Path, step: int) -> None:
    """Write `<metric>/<step>.png` for each picture of the last evaluation."""
    for name, sheet in self.sheets.items():
      folder = workdir / name.replace("/", "_at_")
      pictures.save_sheet(sheet, folder / f"{step}.png")

  def record(self, step: int, values: dict[str, float]) -> dict[str, Any]:
    """Return a row of `metrics.jsonl`: numbers and their provenance."""
    made = self._comparison.provenance()
    if agreement.NAME in values:
      made["protocols"][agreement.NAME] = agreement.PROTOCOL
    return {
      "step": step,
      "kimg": round(growth.kimg_at(self._config, step), 6),
      **values,
      "data_hash": self._prepared.metadata.content_hash,
      **made,
    }

  def _check(self, protocol: Protocol) -> None:
    name = protocol.name
    _check_fit(protocol, self._config, bool(self._prepared.metadata.part))
    feature_pass.check(protocol, self._passes.extractors)
    drawn = self._comparison.reals.draw(protocol.draws, protocol.num_fakes)
    least = protocol.least_images
    if (there := len(drawn.numbers)) < least:
      raise ValueError(
        f"{name} needs {least} real images, and there are {there}; choose "
        "other metrics"
      )
    if protocol.per_class:
      names = self._prepared.metadata.class_names
      have = self._places_by_class(protocol)
      if rare := [name for name in names if name not in have]:
        reason = (
          f"without {len(rare)} of {len(names)} classes, which have fewer than "
          f"{_FEWEST} of the reals or fakes: {reading.listed(rare, 3)}"
        )
        if len(rare) == len(names):
          raise ValueError(f"{name} has no number {reason}; ask for more fakes")
        self._comparison.doubt(protocol, reason)

  def _read_holdout(self) -> None:
    for protocol in self.protocols:
      if protocol.kind == "copying" and protocol not in self._of_holdout:
        # More than fakes or training images would show a copy no better.
        most = max(protocol.num_fakes, len(self._prepared))
        some = dataclasses.replace(protocol, draws="", num_fakes=most)
        holdout = Reals.of(self._open_holdout(), self._config.mirror)
        found = holdout.statistics([some], self._passes, "hold-out")
        self._of_holdout[protocol] = found[some]

  def _open_holdout(self) -> data.PreparedSet:
    if self._prepared.metadata.part:
      return data.open_prepared(self._prepared.path, "holdout")
    dataset = ConfigDict(self._config.dataset)
    dataset.split = "test"
    config = ConfigDict(self._config)  # a stage's has another resolution
    config.resolution = self._prepared.metadata.resolution
    return data.open_prepared(data.prepare(config, dataset))

  def _copying(
    self, protocol: Protocol, reals: Rows, fakes: Rows, fakes_at: ImagesAt
  ) -> dict[str, float]:
    """Compute `copying`; make a sheet, fakes above their training images."""
    views = 2 if self._config.mirror else 1
    train, holdout = (
      x.array.reshape(-1, views, x.shape[1])
      for x in (reals, self._of_holdout[protocol])
    )
    found = copying.measure(train, holdout, fakes.array)
    count, size = len(found.fakes), self._batch_size
    batches = [
      fakes_at(np.resize(found.fakes[i:], size)) for i in range(0, count, size)
    ]
    side = max(batches[0])
    pairs = np.concatenate([batch[side] for batch in batches])[:count]
    copied = [self._prepared.levels(int(i)) for i in found.reals]
    both = [
      pictures.to_levels(np.asarray(pairs)),
      pictures.resized(np.stack(copied), pairs.shape[1]),
    ]
    shown = self._prepared.metadata.view(np.concatenate(both), self._bands)
    self.sheets[protocol.name] = pictures.grid(shown, count)
    return {protocol.name: found.share, f"{protocol.name}_z": found.z}

  def _per_class(
    self, protocol: Protocol, reals: Rows, fakes: Rows
  ) -> dict[str, float]:
    by_key: dict[str, dict[str, float]] = {}
    places, dimension = self._places_by_class(protocol), reals.array.shape[1]
    fewest = min(len(x) for both in places.values() for x in both)
    if protocol.is_frechet and fewest <= dimension:
      self._comparison.doubt(
        protocol,
        f"biased: a class has {fewest:,} reals or fakes, too few for "
        f"{dimension:,} features; kid is unbiased",
      )
    for name, (of_reals, of_fakes) in places.items():
      values = feature_pass.compute(
        protocol, Rows(reals.array[of_reals]), Rows(fakes.array[of_fakes])
      )
      # "kid_per_class/64" is the scale of 64x64.
      title = f"class {name}" if name.isdecimal() else name
      for key, value in values.items():
        by_key.setdefault(key, {})[f"{key}/{title}"] = value
    means = {}
    for key, of_class in by_key.items():
      if len(of_class) < len(places):  # small classes have no subsets
        continue
      values = np.array([*of_class.values()])
      means[key] = float(values.mean())
      if key.endswith("_error"):  # that of a mean
        means[key] = float(np.linalg.norm(values) / len(values))
    return functools.reduce(operator.or_, by_key.values(), means)

  def _places_by_class(
    self, protocol: Protocol
  ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the places of each class's reals and fakes, if both are enough."""
    drawn, _ = self._comparison.reals.draw(protocol.draws, protocol.num_fakes)
    labels = (
      self._real_labels[drawn],
      self._labels[: protocol.num_fakes],
    )
    found = {}
    for label, name in enumerate(self._prepared.metadata.class_names):
      places = tuple(np.flatnonzero(x == label) for x in labels)
      if min(map(len, places)) >= _FEWEST:
        found[name] = places
    return found

  def _agreement(self, fakes_at: ImagesAt) -> dict[str, float]:
    count, size = agreement.NUM_FAKES, self._batch_size
    starts = range(0, count, size)
    batches = (fakes_at(start + np.arange(size)) for start in starts)
    return agreement.measure(
      {r: x[: count - start] for r, x in batch.items()}
      for start, batch in zip(starts, batches, strict=True)
    )

  def _fakes_at(self, params: Any, state: Any) -> ImagesAt:
    # From the mesh of all processes to the mesh of this process.
    here = sharding.replicated(self._mesh)
    params, state = jax.tree.map(
      lambda x: jax.device_put(x.addressable_data(0), here), (params, state)
    )
    generator = trained.Generator(self._config, self._network, params, state)

    def images_at(numbers: np.ndarray) -> dict[int, jax.Array]:
      batch = {"numbers": numbers.astype(np.int32)}
      z, noise = self._draw(sharding.put_batch(self._mesh, batch)["numbers"])
      labels = self._labels[numbers] if self._config.num_classes else None
      pyramid = generator(z, labels, noise=noise)
      exact = self._prepared.metadata.dtype != "uint8"
      return {
        resolution: jnp.clip(scale, -1, 1) if exact else quantize(scale)
        for resolution, scale in zip(self._scales, pyramid, strict=True)
      }

    return images_at

  @functools.cached_property
  def _draw(self):
    """Compile the draw of the fakes' latents and noise keys by index."""
    without_weights = trained.Generator(self._config, self._network, {}, {})

    def draw_one(number: jax.Array) -> tuple[jax.Array, jax.Array]:
      key = jax.random.fold_in(jax.random.key(_SEED), number)
      latent_key, noise_key = jax.random.split(key)
      return without_weights.sample_latents(latent_key, 1)[0], noise_key

    return jax.jit(jax.vmap(draw_one))

  @functools.cached_property
  def _real_labels(self) -> np.ndarray:
    return data.read_labels(self._prepared)

  @functools.cached_property
  def _labels(self) -> np.ndarray:
    """A label for every fake: that of a random real image."""
    most = max(protocol.num_fakes or 0 for protocol in self.protocols)
    most = max(most, agreement.NUM_FAKES + self._batch_size)
    random = np.random.RandomState(_SEED)
    numbers = random.randint(len(self._prepared), size=most)
    return self._real_labels[numbers]
