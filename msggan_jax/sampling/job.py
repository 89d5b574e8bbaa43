"""A request for pictures, and how every mode generates images for it."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msggan_jax.checkpoints import trained
from msggan_jax.data import pictures
from msggan_jax.models import base_grid
from msggan_jax.models.pyramid import connected_scales
from msggan_jax.runtime import progress
from msggan_jax.sampling import sheets

_LONGEST = 14  # characters of a class in a title

Scales = dict[int, np.ndarray]  # resolution -> uint8 pictures, (N, r, r, C)
Rows = Callable[[int], Sequence[Sequence[np.ndarray | None]]]


@dataclasses.dataclass(frozen=True)
class Job:
  """What all modes share."""

  generator: trained.Generator
  output: Path  # a folder
  seeds: Sequence[int]  # one image, row or column for each
  labels: Sequence[int] | None = None  # a class for each seed
  scales: tuple[int, ...] = ()  # chosen resolutions; empty: the mode's default
  truncation_psi: float = 1.0
  batch_size: int = 16  # changes images only by rounding
  bands: tuple[int, ...] | None = None  # as for `Generator.view`

  @property
  def shown_bands(self) -> tuple[int, ...]:
    """The channels of the pictures, as for `pictures.view`."""
    return self.generator.bands if self.bands is None else self.bands

  @property
  def available(self) -> tuple[int, ...]:
    """All resolutions of the generator."""
    config = self.generator.config
    return connected_scales(config.resolution, config.connected_scales)

  @property
  def chosen(self) -> tuple[int, ...]:
    """The chosen resolutions; by default the largest."""
    return self.scales or self.available[-1:]

  @property
  def chosen_or_all(self) -> tuple[int, ...]:
    """The chosen resolutions; by default all."""
    return self.scales or self.available

  @functools.cached_property
  def latents(self) -> jax.Array:
    """The seeds' latents, (N, latent_size), each independent of the others."""
    return self.latents_of(self.seeds)

  def latents_of(self, seeds: Sequence[int]) -> jax.Array:
    return jnp.concatenate(
      [self.generator.sample_latents(jax.random.key(s), 1) for s in seeds]
    )

  def labels_of(self, num: int) -> list[int] | None:
    """Return a class for each of `num` other seeds, as for the seeds."""
    if self.labels is None:
      return None
    return [self.labels[i % len(self.labels)] for i in range(num)]

  @property
  def styles(self) -> jax.Array:
    """The seeds' w, (N, w_size), not truncated."""
    return self.generator.map_latents(self.latents, self.labels)

  def generate(self, title: str = "images") -> Scales:
    """Generate the seeds' images at every scale, truncated."""
    places = range(len(self.seeds))
    parts = [self.to_scales(x) for x in self.batches(places, title)]
    return {r: np.concatenate([x[r] for x in parts]) for r in self.available}

  def batches(
    self, chosen: Sequence[int], title: str = "images"
  ) -> Iterator[Sequence[np.ndarray]]:
    """Generate in batches the pyramids of some seeds, given by their places."""

    def generate(places: np.ndarray) -> Sequence[jax.Array]:
      labels = None
      if self.labels is not None:
        labels = [self.labels[i] for i in places]
      z = self.latents_of([self.seeds[i] for i in places])
      return self.generator(z, labels, truncation_psi=self.truncation_psi)

    return progress.each_batch(
      generate,
      np.array(chosen),
      batch_size=self.batch_size,
      title=title,
    )

  @functools.cached_property
  def marks(self) -> list[str]:
    """A text for each seed that tells its image from all others."""
    weights = hashlib.sha256()
    for array in jax.tree.leaves((self.generator.params, self.generator.state)):
      weights.update(np.ascontiguousarray(array))
    about = f"{weights.hexdigest()[:16]} psi {self.truncation_psi:g}"
    if self.shown_bands:
      about += f" bands {self.shown_bands}"
    labels = self.labels or [None] * len(self.seeds)
    pairs = zip(self.seeds, labels, strict=True)
    return [f"{about} seed {seed} class {label}" for seed, label in pairs]

  def synthesize(self, w: jax.Array, title: str = "images") -> Scales:
    """Generate the images of w, (N, w_size) or (N, layers, w_size)."""
    pyramid = progress.map_batches(
      self.generator.synthesize,
      w,
      batch_size=self.batch_size,
      title=title,
    )
    return self.to_scales(pyramid)

  def to_scales(self, pyramid: Sequence[np.ndarray]) -> Scales:
    """Return uint8 pictures by resolution."""
    shown = (self.generator.view(images, self.bands) for images in pyramid)
    return dict(zip(self.available, shown, strict=True))

  def truncate(self, w: jax.Array) -> jax.Array:
    if self.truncation_psi == 1:
      return w
    return self.generator.truncate(w, self.truncation_psi)

  @property
  def titles(self) -> list[str]:
    """A title for each seed, with its class if there is one."""
    return self.titles_of(self.seeds, self.labels)

  def titles_of(
    self, seeds: Sequence[int], labels: Sequence[int] | None
  ) -> list[str]:
    """Return a title for each seed, with its class if there is one."""
    if labels is None:
      return [f"seed {seed}" for seed in seeds]
    names = self.generator.class_names
    classes = [f"{x}: {names[x]}" if names else f"class {x}" for x in labels]
    pairs = zip(seeds, map(_shortened, classes), strict=True)
    return [f"seed {seed}\n{name}" for seed, name in pairs]

  def save_sheet(self, name: str, rows, **options) -> list[str]:
    """Write a sheet as PNG in the output and return a line with its path."""
    path = self.output / f"{name}.png"
    pictures.save_sheet(sheets.make_sheet(rows, **options), path)
    return [str(path)]

  def save_sheets(self, name: str, rows: Rows, **titles) -> list[str]:
    """Write a sheet for each chosen scale; rows: resolution -> images."""
    lines = []
    for r in self.chosen:
      lines += self.save_sheet(f"{name}_{r}x{r}", rows(r), **titles)
    return lines


def _shortened(text: str) -> str:
  """Return a text that fits above a column."""
  return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def scale_title(resolution: int, config: ConfigDict) -> str:
  """Return the title of a scale: its rows and columns of pixels."""
  grid = base_grid.parse(config.base_grid)
  return "\u00d7".join(map(str, base_grid.image_size(resolution, grid)))
