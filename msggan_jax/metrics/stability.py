"""Fixed latents during training: stability (paper, Fig. 6) and diversity."""

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.data import PreparedSet, pictures
from msggan_jax.metrics.distances import nearest
from msggan_jax.metrics.reals import Reals
from msggan_jax.models.pyramid import make_pyramid, resolution_of, to_uint8
from msggan_jax.runtime import progress

NUM_LATENTS = 36

_KEY = 2**31 - 2  # of the latents; training itself draws by example and step
_BATCH = 4  # as the grids', so that one shape is compiled
_SIDE = 32  # diversity compares images of this resolution, at most
_FEWEST = 16  # real images whose diversity means anything


class Stability:
  """Fixed latents' images: their change between snapshots, their diversity.

  Its state is the images of the last snapshot. It is not stored: a resumed run
  regenerates it from the checkpoint.
  """

  def __init__(
    self,
    generator: trained.Generator,
    seed: int = 0,
    prepared: PreparedSet | None = None,
  ):
    """Generate the seed's images of step 0 or of the last checkpoint.

    Diversity needs a prepared set of 16 images or more.
    """
    self._key = jax.random.fold_in(jax.random.key(seed), _KEY)
    self._reals = np.empty(0)
    if prepared is not None:
      numbers, _ = Reals.of(prepared).draw("", NUM_LATENTS)
      reals = (prepared.levels(int(i))[None] for i in numbers)
      self._reals = np.concatenate([_at_most(_SIDE, image) for image in reals])
    self._last = self._images(generator)

  def update(self, generator: trained.Generator) -> dict[str, float]:
    """Compare the current EMA generator with the last snapshot, and replace it.

    Returns "stability/<res>": the mean squared difference of the images of 36
    latents, in [-1, 1], with fixed noise, by scale. Images that have grown
    since are averaged to the size of the last ones. "diversity" is the mean
    distance of an image to its nearest other one, divided by that of as many
    real images, at 32x32 or less: 0 if all latents give one image.
    """
    images, changes = self._images(generator), {}
    for now, before in zip(images, self._last, strict=True):
      resolution = resolution_of(before)
      (now,) = make_pyramid(now, (resolution,))
      change = float(np.square(now - before).mean())
      changes[f"stability/{resolution}"] = change
    self._last = images
    return changes | self._diversity(images)

  def _diversity(self, pyramid: tuple[np.ndarray, ...]) -> dict[str, float]:
    if len(self._reals) < _FEWEST:
      return {}
    small = [x for x in pyramid if resolution_of(x) <= _SIDE] or pyramid[:1]
    # As many fakes as reals: of more images, one is nearer.
    images = (to_uint8(x)[None] for x in small[-1][: len(self._reals)])
    fakes = np.concatenate([_at_most(_SIDE, image) for image in images])
    reals = _at_most(resolution_of(fakes), self._reals)
    of_fakes, of_reals = map(_distance_within, (fakes, reals))
    return {"diversity": of_fakes / of_reals} if of_reals else {}

  def _images(self, generator: trained.Generator) -> tuple[np.ndarray, ...]:
    z = generator.sample_latents(self._key, NUM_LATENTS)
    labels = generator.labels_in_turn(NUM_LATENTS)
    return progress.map_batches(generator, z, labels, batch_size=_BATCH)


def _at_most(side: int, images: np.ndarray) -> np.ndarray:
  """Average uint8 images, (N, H, W, C), to a resolution if theirs is larger."""
  factor = max(1, resolution_of(images) // side)
  return pictures.resized(images, images.shape[1] // factor)


def _distance_within(images: np.ndarray) -> float:
  """Return the mean distance of images to their nearest other one."""
  pixels = images.reshape(len(images), -1)
  # The nearest is the image itself. Of 36, a median varies 1.6 times as much.
  return float(nearest(pixels, pixels, 2)[0][:, 1].mean())
