"""Metrics of a generator, during training and afterwards."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from msggan_jax import data
from msggan_jax.checkpoints import trained
from msggan_jax.data import pictures
from msggan_jax.metrics import protocols, results
from msggan_jax.metrics.extractors import Extractors
from msggan_jax.metrics.feature_pass import ImagesAt, Statistics, measure
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.metrics.reals import Reals
from msggan_jax.metrics.run_metrics import RunMetrics
from msggan_jax.models import networks
from msggan_jax.models.pyramid import connected_scales, quantize
from msggan_jax.runtime import processes, sharding

_SEED = 0  # of the fakes: the same latents for every run and step


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
    """Check the requested metrics.

    Args:
      config: The run's configuration.
      prepared: Its real images.
      extractors: The available feature networks.
      names: The protocols, a list or text with commas; the first decides which
        checkpoint is the best.
      progress: Whether to show progress bars.

    Raises:
      ValueError: If a protocol is unknown or does not fit the run.
      FileNotFoundError: If weights are missing.
    """
    self._config = config
    self._prepared = prepared
    self._extractors = extractors
    self._progress = progress
    self._scales = connected_scales(config)
    self.protocols = protocols.parse(names, extractors.names)
    self.sheets: dict[str, np.ndarray] = {}
    self._of_reals: dict[Protocol, Statistics] | None = None
    self._network = networks.make_generator(config)
    self._mesh = sharding.make_mesh(jax.local_devices())
    # A batch's largest activation is at most 270 MB a device.
    per_device = max(1, min(16, 4096 // config.resolution))
    self._batch_size = per_device * self._mesh.size
    self._reals = Reals(
      lambda i: prepared[i]["image"],
      len(prepared),
      mirror=config.mirror,
      content_hash=prepared.metadata.content_hash,
      cache=prepared.path / "statistics",
    )
    self._run_metrics = RunMetrics(
      config, prepared, self._reals, extractors, self._batch_size
    )
    for protocol in self.protocols:
      self._check(protocol)

  def evaluate(
    self,
    params: Any,
    state: Any,
    after_batch: Callable[[], None] = lambda: None,
  ) -> dict[str, float]:
    """Compute the metrics of EMA weights; a call of all processes.

    Args:
      params: The generator's EMA parameters, replicated.
      state: The EMA state.
      after_batch: Called after each batch; may raise to end the evaluation.

    Returns:
      Numbers by name; some protocols return several.
    """
    requests = {
      protocol: results.request(
        protocol,
        self._extractors,
        self._config.resolution,
        protocol.num_fakes,
      )
      for protocol in self.protocols
    }
    resolutions = {request.resolution for request in requests.values()}
    real_statistics = self._real_statistics(after_batch)
    self._run_metrics.read(self.protocols, after_batch)
    fakes_at = self._fakes_at(params, state, resolutions)
    fakes = measure(
      fakes_at,
      list(dict.fromkeys(requests.values())),
      self._extractors,
      batch_size=self._batch_size,
      progress="fakes" if self._progress else "",
      after_batch=after_batch,
    )
    values = {}
    if processes.is_first():
      for protocol, request in requests.items():
        reals = real_statistics.get(protocol)
        values |= self._compute(protocol, reals, fakes[request])
      self.sheets = self._run_metrics.sheets(fakes_at)
    return processes.from_first(values)

  def write_sheets(self, workdir: Path, step: int) -> None:
    """Write `<metric>/<step>.png` for each picture of the last evaluation."""
    for name, sheet in self.sheets.items():
      pictures.save_png(
        sheet, workdir / name.replace("/", "_at_") / f"{step}.png"
      )

  def record(self, step: int, values: dict[str, float]) -> dict[str, Any]:
    """Return a row of `metrics.jsonl`: numbers and their provenance."""
    return {
      "step": step,
      "kimg": round(step * self._config.batch_size / 1000, 6),
      **values,
      "data_hash": self._prepared.metadata.content_hash,
      **results.provenance(self.protocols, self._extractors),
    }

  def _compute(
    self, protocol: Protocol, reals: Statistics | None, fakes: Statistics
  ) -> dict[str, float]:
    labels = self._labels if self._config.num_classes else None
    values = self._run_metrics.compute(protocol, reals, fakes, labels)
    if values is None:
      values = results.compute(protocol, reals, fakes)
    return values

  def _check(self, protocol: Protocol) -> None:
    name = protocol.name
    if protocol.num_fakes is None:
      raise ValueError(f"{name}: add the number of fakes, such as 10k or 50k")
    if protocol.resolution not in (None, *self._scales):
      raise ValueError(
        f"{name}: this generator has the scales "
        f"{', '.join(map(str, self._scales))}"
      )
    self._run_metrics.check(protocol)
    results.check(protocol, self._extractors)

  def _real_statistics(
    self, after_batch: Callable[[], None]
  ) -> dict[Protocol, Statistics]:
    if self._of_reals is None:
      self._of_reals = self._reals.statistics(
        self.protocols,
        self._extractors,
        self._config.resolution,
        batch_size=self._batch_size,
        progress=self._progress,
        after_batch=after_batch,
      )
    return self._of_reals

  def _fakes_at(
    self, params: Any, state: Any, resolutions: set[int]
  ) -> ImagesAt:
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
      return {
        resolution: quantize(scale)
        for resolution, scale in zip(self._scales, pyramid, strict=True)
        if resolution in resolutions
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
  def _labels(self) -> np.ndarray:
    """Return a label for every fake: that of a random real image."""
    most = max(protocol.num_fakes for protocol in self.protocols)
    random = np.random.RandomState(_SEED)
    numbers = random.randint(len(self._prepared), size=most)
    return data.read_labels(self._prepared)[numbers]
