"""Stability during training (paper, Fig. 6)."""

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.models.pyramid import make_pyramid, resolution_of
from msggan_jax.runtime import progress

NUM_LATENTS = 36

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
      changes[f"stability/{resolution}"] = change
    self._last = images
    return changes

  def _images(self, generator: trained.Generator) -> tuple[np.ndarray, ...]:
    z = generator.sample_latents(self._key, NUM_LATENTS)
    labels = generator.labels_in_turn(NUM_LATENTS)
    return progress.map_batches(generator, z, labels, batch_size=_BATCH)
