"""Mode nearest: the training images nearest to generated ones."""

import numpy as np

from msggan_jax import data
from msggan_jax.metrics import distances
from msggan_jax.metrics.extractors import EFFICIENTNET, INCEPTION, Extractors
from msggan_jax.metrics.reals import Reals
from msggan_jax.sampling.job import Job

_BATCH = 64
_QUERIES = 2000  # training images that are compared with the others


def nearest(
  job: Job,
  neighbors: int,
  *,
  data_dir: str,
  max_reals: int = 0,
  inception: str = "",
  extractor: str = "",
) -> list[str]:
  """Write a sheet: each seed's image and the nearest training images.

  A sentence compares the distances with those between training images.

  Args:
    job: The request.
    neighbors: Training images beside each generated one.
    data_dir: The folder of prepared sets that the user allows.
    max_reals: Number of training images to search, the first ones; 0: all.
    inception: Inception's weight file; "": EfficientNet-Lite0.
    extractor: module:function of the user instead; "": none.
  """
  config = job.generator.config
  if "dataset" not in config:
    raise ValueError(
      "--mode=nearest compares with a run's data set, which this file does not "
      "name; give the run's folder as --workdir"
    )
  extractors = Extractors(inception, extractor)
  name = INCEPTION if inception else EFFICIENTNET
  if extractor:
    name = extractors.names[-1]
  network = extractors[name]  # missing weights are reported before any work
  prepared = data.open_prepared(data.prepare_of_run(config, data_dir))
  resolution = job.available[-1]
  reals = Reals(
    lambda i: prepared[i]["image"],
    len(prepared),
    content_hash=prepared.metadata.content_hash,
    cache=prepared.path / "statistics",
  ).features(
    name,
    extractors,
    resolution,
    batch_size=_BATCH,
    count=max_reals or None,
    progress="reals",
  )
  fakes = job.generate()[resolution]

  def search(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = network.features(images)[network.pooled]
    return distances.nearest(features, reals, neighbors)

  found, places = search(fakes)
  if config.mirror:
    # Training also saw each image mirrored; so search for the mirrored fakes.
    mirrored = search(np.ascontiguousarray(fakes[:, :, ::-1]))
    closer = mirrored[0][:, :1] < found[:, :1]
    found = np.where(closer, mirrored[0], found)
    places = np.where(closer, mirrored[1], places)
  nearest_images = [
    [prepared[int(place)]["image"] for place in row] for row in places
  ]
  lines = job.save_sheet(
    "nearest",
    [[fake, *row] for fake, row in zip(fakes, nearest_images, strict=True)],
    row_titles=[
      f"{title}\ndistance {distance:.3g}"
      for title, distance in zip(job.titles, found[:, 0], strict=True)
    ],
    column_titles=["generated", *map(_ordinal, range(1, 1 + neighbors))],
  )
  return [*lines, _compare(found[:, 0], reals)]


def _ordinal(number: int) -> str:
  return {1: "nearest", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _compare(found: np.ndarray, reals: np.ndarray) -> str:
  """Compare the fakes' nearest distances with the reals' own."""
  fakes_text = (
    f"distance to the nearest of {len(reals)} training images: median "
    f"{np.median(found):.3g}, least {found.min():.3g}"
  )
  if len(reals) < 2:
    return fakes_text
  step = -(-len(reals) // _QUERIES)
  # The nearest feature of a real is its own.
  between, _ = distances.nearest(reals[::step], reals, 2)
  return (
    f"{fakes_text}; between training images: median "
    f"{np.median(between[:, 1]):.3g}, least {between[:, 1].min():.3g}"
  )
