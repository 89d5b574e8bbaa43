"""Stability during training (paper, Fig. 6)."""

import collections
import itertools
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.models.pyramid import make_pyramid, resolution_of
from msggan_jax.runtime import jsonl, progress

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
    latents, in [-1, 1], with fixed noise, by scale. Images that have grown
    since are averaged to the size of the last ones.
    """
    images, changes = self._images(generator), {}
    for now, before in zip(images, self._last, strict=True):
      resolution = resolution_of(before)
      (now,) = make_pyramid(now, (resolution,))
      change = float(np.square(now - before).mean())
      changes[f"{_PREFIX}{resolution}"] = change
    self._last = images
    return changes

  def _images(self, generator: trained.Generator) -> tuple[np.ndarray, ...]:
    z = generator.sample_latents(self._key, NUM_LATENTS)
    labels = generator.labels_in_turn(NUM_LATENTS)
    return progress.map_batches(generator, z, labels, batch_size=_BATCH)


def plot(workdir: Path, newest: Mapping[str, float]) -> None:
  """Plot Fig. 6 in `stability.png`: change against kimg, one line a scale.

  The rows are those of `stats.jsonl`, with a newest one.
  """
  from msggan_jax.runtime import plots  # late, so that training starts sooner

  points = collections.defaultdict(list)  # by resolution
  # One by one: a long run has many rows.
  rows = jsonl.read_steps(workdir / "stats.jsonl")
  for row in itertools.chain(rows, [newest]):
    for name, value in row.items():
      if name.startswith(_PREFIX):
        resolution = int(name.removeprefix(_PREFIX))
        points[resolution].append((row["kimg"], value))
  lines = [
    plots.Line(f"{r}\u00d7{r}", points[r]).on_log_axis() for r in sorted(points)
  ]
  plots.draw(
    workdir / "stability.png",
    [line for line in lines if line.points],
    log=True,
    ylabel="mean squared change",
    dpi=200,
  )
