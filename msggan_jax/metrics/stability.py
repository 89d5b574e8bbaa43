"""Stability during training (paper, Fig. 6)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.models.pyramid import resolution_of
from msggan_jax.runtime import jsonl, palette

NUM_LATENTS = 36

_PREFIX = "stability/"
_KEY = 2**31 - 2  # of the latents; training itself draws by example and step
_BATCH = 4  # as the grids', so that one shape is compiled


class Stability:
  """Mean squared change of fixed latents' images between snapshots.

  Its state is the images of the last snapshot. It is not stored: a resumed run
  regenerates it from the checkpoint.
  """

  def __init__(self, generator: trained.Generator, seed: int = 0):
    """Generate the seed's images of step 0 or of the last checkpoint."""
    self._key = jax.random.fold_in(jax.random.key(seed), _KEY)
    self._last = self._images(generator)

  def update(self, generator: trained.Generator) -> dict[str, float]:
    """Compare the current EMA generator with the last snapshot, and replace it.

    Returns "stability/<res>": the mean squared difference of the images of 36
    latents, in [-1, 1], with fixed noise, by scale.
    """
    images = self._images(generator)
    changes = {
      f"{_PREFIX}{resolution_of(now)}": float(np.square(now - before).mean())
      for now, before in zip(images, self._last, strict=True)
    }
    self._last = images
    return changes

  def _images(self, generator: trained.Generator) -> tuple[np.ndarray, ...]:
    z = generator.sample_latents(self._key, NUM_LATENTS)
    labels = generator.labels_in_turn(NUM_LATENTS)
    return trained.map_batches(generator, z, labels, batch_size=_BATCH)


def read_rows(stats_path: Path) -> list[dict[str, float]]:
  """Return the stability in the rows of a `stats.jsonl`."""
  found = []
  for row in jsonl.read(stats_path):
    changes = {k: x for k, x in row.items() if k.startswith(_PREFIX)}
    if changes:
      found.append({"kimg": row["kimg"], **changes})
  return found


def plot(rows: Sequence[Mapping[str, float]], path: Path) -> None:
  """Plot Fig. 6 as a PNG file: change against kimg, one line a scale."""
  scales = sorted(
    int(name.removeprefix(_PREFIX))
    for name in set().union(*rows)
    if name.startswith(_PREFIX)
  )
  # Late, so that training starts sooner; without pyplot, whose figures are
  # global.
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
  axes = figure.add_subplot()
  for i, resolution in enumerate(scales):
    pairs = [(row["kimg"], row.get(f"{_PREFIX}{resolution}")) for row in rows]
    # Those that a logarithmic axis can show.
    points = [(x, y) for x, y in pairs if y and 0 < y < math.inf]
    axes.plot(
      [x for x, _ in points],
      [y for _, y in points],
      label=f"{resolution}\u00d7{resolution}",
      color=palette.COLORS[i % len(palette.COLORS)],
      marker=palette.MARKERS[i % len(palette.MARKERS)],
      markersize=4,
    )
  axes.set_yscale("log")
  axes.set_xlabel("images shown (kimg)")
  axes.set_ylabel("mean squared change")
  axes.set_title(f"Change of {NUM_LATENTS} latents' images between snapshots")
  axes.grid(color="#dddddd", linewidth=0.5)
  axes.legend(title="scale", loc="center left", bbox_to_anchor=(1, 0.5))
  figure.savefig(path)
