"""Modes grid and multiscale: images of seeds, and all their scales."""

from msggan_jax.data import pictures
from msggan_jax.sampling import sheets
from msggan_jax.sampling.job import Job, scale_title


def grid(job: Job) -> list[str]:
  """Write each seed's image and a grid of them, at every chosen scale.

  As every mode, return lines for the user.
  """
  images = job.generate()
  lines = []
  for resolution in job.chosen:
    pixels = images[resolution]
    folder = job.output / f"{resolution}x{resolution}"
    for seed, image in zip(job.seeds, pixels, strict=True):
      pictures.save_png(image, folder / f"seed{seed:04d}.png")
    path = job.output / f"grid_{resolution}x{resolution}.png"
    pictures.save_png(pictures.grid(pixels), path)
    lines.append(f"{folder}: {len(job.seeds)} images; {path}")
  return lines


def multiscale(job: Job) -> list[str]:
  """Write a sheet: a row for each scale, a column for each seed."""
  images, config = job.generate(), job.generator.config
  return job.save_sheet(
    "multiscale",
    [images[resolution] for resolution in job.chosen_or_all],
    row_titles=[scale_title(r, config) for r in job.chosen_or_all],
    column_titles=job.titles(job.seeds, job.labels),
    side=sheets.cell_side(job.chosen_or_all[-1]),
  )
