"""Pictures of a run: real images, and fixed latents at every scale."""

from pathlib import Path

import jax
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.data import pictures
from msggan_jax.models.pyramid import resolution_of, to_uint8


def sample_grids(
  generator: trained.Generator, seed: int, columns: int
) -> dict[int | str, np.ndarray]:
  """Generate grids of the seed's latents' images at every scale.

  Returns:
    uint8 pictures: a grid for each resolution, and under "scales" all scales of
    the first latents.
  """
  key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)
  z = generator.sample_latents(key, columns * columns)
  labels = generator.labels_in_turn(len(z))
  pyramid = trained.in_batches(generator, z, batch_size=4, labels=labels)
  pyramid = [to_uint8(scale) for scale in pyramid]
  grids = {
    resolution_of(scale): pictures.grid(scale, columns=columns)
    for scale in pyramid
  }
  return grids | {"scales": pictures.scale_sheet(pyramid, examples=columns)}


def write_grids(
  workdir: Path, grids: dict[int | str, np.ndarray], kimg: float
) -> None:
  """Write `samples/<res>x<res>/<kimg>.png` and `samples/scales/<kimg>.png`."""
  for name, picture in grids.items():
    folder = name if name == "scales" else f"{name}x{name}"
    pictures.save_png(
      picture, workdir / "samples" / folder / f"{kimg:010.3f}.png"
    )


def write_reals(workdir: Path, prepared, columns: int) -> None:
  """Write `reals.png`, a grid of real images."""
  count = min(columns * columns, len(prepared))
  reals = np.stack([prepared[i]["image"] for i in range(count)])
  pictures.save_png(
    pictures.grid(reals, columns=columns), workdir / "reals.png"
  )
