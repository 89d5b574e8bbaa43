"""Mode project: find the latent of a given image."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from msggan_jax.checkpoints import trained
from msggan_jax.data import (
  arrays,
  image_files,
  pictures,
  pixels,
  reading,
  set_writer,
  values,
)
from msggan_jax.models import base_grid
from msggan_jax.models.layers import normalize_latents
from msggan_jax.models.pyramid import Pyramid, make_pyramid, to_float
from msggan_jax.runtime import files, progress
from msggan_jax.sampling.job import Job, scale_title

_CANDIDATES = 256  # random latents, of which the best are improved
_STARTS = 8
_LEARNING_RATE = 0.1  # in deviations of a latent's coordinate


def project(job: Job, image: Path, iterations: int) -> list[str]:
  """Write the latent of an image, its images at every scale, and a sheet.

  The image's center is resized as in preparation; the first of the labels
  counts.
  """
  config = job.generator.config
  size, value_range = base_grid.size_of(config), job.generator.value_range
  layout = config.get("dataset", {}).get("layout", "")
  given = read_image(image, size, config.channels, value_range, layout)
  target = make_pyramid(to_float(jnp.asarray(given)[None]), job.available)
  label = None if job.labels is None else job.labels[0]
  latent, errors = find_latent(
    job.generator, target, label, iterations, job.batch_size
  )
  found = (
    job.generator.synthesize(latent[None])
    if config.model == "stylegan"
    else job.generator(latent[None], _labels(label, 1))
  )
  similarity = [_psnr(a, b) for a, b in zip(found, target, strict=True)]
  titles = [scale_title(resolution, config) for resolution in job.available]
  pairs = zip(titles, similarity, strict=True)
  given, made = (job.to_scales(jax.device_get(p)) for p in (target, found))
  lines = job.save_sheet(
    "project",
    [[images[0] for images in scales.values()] for scales in (given, made)],
    row_titles=["given", "found"],
    column_titles=[f"{title}\n{psnr:.1f} dB" for title, psnr in pairs],
  )
  folder = job.output / "projection"
  for resolution, images in made.items():
    name = f"{resolution}x{resolution}.png"
    pictures.save_png(images[0], folder / name)
  name = "w" if config.model == "stylegan" else "z"
  with files.replacing(folder / "latent.npz") as path, path.open("wb") as file:
    np.savez(file, **{name: latent, "errors": errors})
  largest = f"{similarity[-1]:.1f} dB at {titles[-1]}"
  return [*lines, f"{folder}: {name} and images; PSNR {largest}"]


def read_image(
  path: Path,
  size: tuple[int, int],
  channels: int,
  value_range: values.Range | None = None,
  layout: str = "",
) -> np.ndarray:
  """Read an image as it would be stored at a size, (height, width)."""
  if value_range is None and channels not in pixels.MODES:
    raise ValueError(
      f"--mode=project reads images of 1, 3 or 4 channels, not {channels}"
    )
  make = set_writer.picture_maker(size, channels, "center", value_range)
  try:
    data = path.read_bytes()
    if value_range is None:
      return make(image_files.open_image(data))
    found = arrays.read(data, path.name)
    # Of one of a training file's images, unless the axes are a sample's.
    one = re.sub(r"\d+", "C", layout.replace("N", ""))
    shape = dict(zip(one, found.array.shape, strict=False))
    fits = len(one) == found.array.ndim and shape.get("C", channels) == channels
    return make(arrays.image(found, one if fits else ""))
  except Exception as error:  # damaged files raise errors of a dozen types
    reason = reading.reason_of(error)
    raise ValueError(
      f"--image={path} cannot be read as {size[1]}x{size[0]}: {reason}"
    ) from error


def find_latent(
  generator: trained.Generator,
  target: Pyramid,
  label: int | None,
  iterations: int,
  batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Search the latent whose images are nearest at all scales.

  The loss is the mean square error of a scale, summed over the scales. Coarse
  scales lead from far away. Their weight falls to zero halfway, because a
  generator's coarse images are not exactly averages of its fine ones.

  The target has one image a scale, low to high, each (1, r, r, C). Returns z,
  (latent_size,), or of MSG-StyleGAN w, (w_size,); and the best start's errors
  at each step and scale, (iterations, S).
  """
  config = generator.config
  stylegan = config.model == "stylegan"
  on_sphere = config.normalize_latents and not stylegan

  @jax.jit
  def errors(params, state, points):  # (B, S)
    apply = functools.partial(generator.network.apply, params, state)
    if stylegan:
      pyramid = apply(points, method="synthesize")
    else:
      points = normalize_latents(points) if on_sphere else points
      pyramid = apply(points, _labels(label, len(points)))
    differences = map(_difference, pyramid, target)
    means = [jnp.square(x).mean(axis=(1, 2, 3)) for x in differences]
    return jnp.stack(means, axis=1)

  points = generator.sample_latents(jax.random.key(0), _CANDIDATES)
  if stylegan:
    points = generator.map_latents(points, _labels(label, len(points)))
  trees = (generator.params, generator.state)
  (values,) = progress.map_batches(
    lambda batch: (errors(*trees, batch).sum(axis=1),),
    points,
    batch_size=batch_size,
  )
  best = np.argsort(values)[: min(_STARTS, batch_size)]
  points, spread = points[best], float(jnp.std(points))
  rates = optax.cosine_decay_schedule(_LEARNING_RATE * spread, iterations)
  optimizer = optax.adam(rates, b1=0.9, b2=0.99)

  @jax.jit
  def step(trees, points, moments, weights):
    def total(points):
      values = errors(*trees, points)
      return (values * weights[None]).sum(), values

    gradients, values = jax.grad(total, has_aux=True)(points)
    updates, moments = optimizer.update(gradients, moments)
    return points + updates, moments, values

  moments = optimizer.init(points)
  weights = np.ones(len(target), np.float32)
  history = []
  with progress.bar(iterations, "project", "steps") as bar:
    for i in range(iterations):
      weights[:-1] = max(0, 1 - 2 * i / iterations)
      points, moments, values = step(trees, points, moments, weights)
      history.append(np.asarray(values))
      bar.update()
  best = int(history[-1][:, -1].argmin())
  points = normalize_latents(points) if on_sphere else points
  return np.asarray(points[best]), np.array(history)[:, best]


def _difference(images: jax.Array, target: jax.Array) -> jax.Array:
  """Subtract; where the target is black or white, overshoot is not an error."""
  target = jnp.clip(target, -1, 1)
  images = jnp.where(target == 1, jnp.minimum(images, 1), images)
  images = jnp.where(target == -1, jnp.maximum(images, -1), images)
  return images - target


def _labels(label: int | None, num: int) -> np.ndarray | None:
  return None if label is None else np.full(num, label, np.int32)


def _psnr(a: jax.Array, b: jax.Array) -> float:
  """Return the peak signal-to-noise ratio of images in [-1, 1], in dB."""
  error = float(jnp.square(jnp.clip(a, -1, 1) - b).mean())
  return 10 * np.log10(4 / max(error, 1e-10))
