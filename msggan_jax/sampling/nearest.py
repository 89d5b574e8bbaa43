"""Mode nearest: the training images nearest to generated ones."""

from pathlib import Path

import numpy as np

from msggan_jax import data
from msggan_jax.config import saved
from msggan_jax.metrics import distances
from msggan_jax.metrics.extractors import EFFICIENTNET, INCEPTION, Extractors
from msggan_jax.metrics.feature_pass import Passes
from msggan_jax.metrics.reals import Reals
from msggan_jax.models.pyramid import to_float
from msggan_jax.sampling.job import Job

_BATCH = 64
_QUERIES = 2000  # training images that are compared with the others


def nearest(
  job: Job,
  neighbors: int,
  *,
  data_dir: str,
  workdir: Path | None = None,
  max_reals: int = 0,
  inception: str = "",
  extractor: str = "",
) -> list[str]:
  """Write a sheet: each seed's image and the nearest training images.

  A sentence compares the distances with those between training images. A
  sample of `max_reals` is searched, or all.
  """
  config = job.generator.config
  if "dataset" not in config:
    raise ValueError(
      "--mode=nearest compares with a run's data set, which this file does not "
      "name; give the run's folder as --workdir"
    )
  extractors = Extractors(inception, extractor)
  name = INCEPTION if inception else EFFICIENTNET
  name = extractors.names[-1] if extractor else name
  network = extractors[name]  # missing weights are reported before any work
  of_run = config
  if workdir and saved.exists(workdir):  # a stage's has the stage's size
    of_run = saved.load_config(workdir)
  prepared = data.open_prepared(data.prepare_of_run(of_run, data_dir, workdir))
  resolution = job.available[-1]

  def view(images: np.ndarray) -> np.ndarray:
    return job.generator.view(images, job.bands)

  passes = Passes(extractors, resolution, _BATCH, has_bar=True)
  if prepared.metadata.values or job.shown_bands:
    passes.bands = job.shown_bands
  numbers, reals = Reals.of(prepared).features(name, passes, max_reals)
  made = np.concatenate([x[-1] for x in job.batches(range(len(job.seeds)))])
  fakes = view(made)

  def search(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = network.features(images)[network.pooled]
    return distances.nearest(features, reals, neighbors)

  found, places = search(fakes)
  if config.mirror:
    # Training also saw each image mirrored; so search for the mirrored fakes.
    mirrored = search(view(made[:, :, ::-1]))
    closer = mirrored[0][:, :1] < found[:, :1]
    found = np.where(closer, mirrored[0], found)
    places = np.where(closer, mirrored[1], places)
  rows = [
    [fake, *(view(to_float(prepared[int(i)]["image"])) for i in numbers[row])]
    for fake, row in zip(fakes, places, strict=True)
  ]
  later = [f"{number}th" for number in range(4, 1 + neighbors)]
  ordinals = ["nearest", "2nd", "3rd", *later]
  lines = job.save_sheet(
    "nearest",
    rows,
    row_titles=[
      f"{title}\ndistance {distance:.3g}"
      for title, distance in zip(job.titles, found[:, 0], strict=True)
    ],
    column_titles=["generated", *ordinals[:neighbors]],
  )
  return [*lines, _compare(found[:, 0], reals)]


def _compare(found: np.ndarray, reals: np.ndarray) -> str:
  """Compare the fakes' nearest distances with the reals' own."""
  text = f"distance to the nearest of {len(reals)} training images: "
  text += f"median {np.median(found):.3g}, least {found.min():.3g}"
  if len(reals) < 2:
    return text
  step = -(-len(reals) // _QUERIES)
  # The nearest feature of a real is its own.
  between = distances.nearest(reals[::step], reals, 2)[0][:, 1]
  return (
    f"{text}; between training images: median {np.median(between):.3g}, least "
    f"{between.min():.3g}"
  )
