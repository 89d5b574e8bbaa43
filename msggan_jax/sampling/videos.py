"""Modes interpolate and training, and videos: MP4 and animated WebP by PyAV."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from scipy.interpolate import CubicSpline

from msggan_jax.algorithm import growth
from msggan_jax.checkpoints import checkpoint, trained
from msggan_jax.config import saved
from msggan_jax.models.layers import normalize_latents
from msggan_jax.models.pyramid import Pyramid
from msggan_jax.runtime import files, progress
from msggan_jax.sampling import sheets
from msggan_jax.sampling.job import Job, Scales, scale_title

_FPS = 30
_MOST_PIXELS = 16_383  # a side, of WebP
_GAP = 4  # pixels between scales
# Suffix -> encoder, its options and the container's; WebP repeats for ever.
_ENCODERS = {
  ".mp4": ("libx264", {"crf": "18"}, {}),
  ".webp": ("libwebp_anim", {"quality": "85"}, {"loop": "0"}),
}


def interpolate(job: Job, frames: int | None) -> list[str]:
  """Write a walk through the seeds and back to the first, as MP4 and WebP.

  MSG-ProGAN walks on z's hypersphere, within the first seed's class;
  MSG-StyleGAN in w, from class to class. A frame shows the chosen scales side
  by side; `frames` lie from one seed to the next, 60 by default.
  """
  frames = frames or 60
  if len(job.seeds) < 2:
    raise ValueError(
      "--mode=interpolate needs 2 or more --seeds to walk between"
    )
  stylegan = job.generator.config.model == "stylegan"
  corners = np.asarray(job.styles if stylegan else job.latents)
  closed = np.concatenate([corners, corners[:1]])
  walk = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
  points = walk(np.arange(len(corners) * frames) / frames)
  points = points.astype(corners.dtype)
  if job.generator.config.normalize_latents and not stylegan:
    points = np.asarray(normalize_latents(jnp.asarray(points)))

  def generate(batch: np.ndarray) -> Pyramid:
    if stylegan:
      return job.generator.synthesize(job.truncate(jnp.asarray(batch)))
    labels = None if job.labels is None else job.labels[:1] * len(batch)
    psi = job.truncation_psi
    return job.generator(jnp.asarray(batch), labels, truncation_psi=psi)

  def pictures() -> Iterator[np.ndarray]:
    for pyramid in progress.each_batch(
      generate, points, batch_size=job.batch_size, title="interpolate"
    ):
      scales = job.to_scales(pyramid)
      for i in range(len(pyramid[0])):
        yield _side_by_side(job, scales, i)

  return write(job.output / "interpolate", pictures())


def training(job: Job, workdir: Path, frames: int | None) -> list[str]:
  """Write the same latents over a run's checkpoints, as MP4 and WebP.

  A row for each scale, a column for each seed; `frames` for each checkpoint, 15
  by default.
  """
  frames, workdir = frames or 15, trained.find(workdir)
  if workdir.is_file():
    raise ValueError(
      f"--mode=training shows a run's checkpoints, but {workdir} is one file"
    )
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    checkpoints.find(None)
    steps = checkpoints.steps
  config, run = job.generator.config, saved.load_config(workdir)

  def pictures() -> Iterator[np.ndarray]:
    with progress.bar(len(steps), "training", "checkpoints") as bar:
      for step in steps:
        try:
          generator = trained.load_generator(workdir, step)
        except (OSError, ValueError) as error:  # damaged, or deleted by the run
          logging.warning("skipped: %s", error)
          bar.update()
          continue
        scales = dataclasses.replace(job, generator=generator).generate("")
        # One that grows has had smaller images.
        largest = scales[max(scales)]
        kimg = growth.kimg_at(run, step)
        sheet = sheets.make_sheet(
          [
            scales[r] if r in scales else [sheets.fit(x, r) for x in largest]
            for r in job.chosen_or_all
          ],
          row_titles=[scale_title(r, config) for r in job.chosen_or_all],
          column_titles=[f"{kimg:.1f} kimg"],
        )
        for _ in range(frames):
          yield sheet
        bar.update()

  return write(job.output / "training", pictures())


def write(stem: Path, frames: Iterable[np.ndarray]) -> list[str]:
  """Write the same frames as .mp4 and .webp files, and return their paths.

  The frames are uint8 RGB, (H, W, 3); the last row and column of an odd side
  are repeated.
  """
  try:
    import av
  except ImportError as error:
    raise FileNotFoundError(
      "videos need PyAV: pip install 'av>=14', or this project with [video]"
    ) from error
  stem.parent.mkdir(parents=True, exist_ok=True)
  paths = [f"{stem}{suffix}" for suffix in _ENCODERS]
  frames = map(_pad, frames)
  first = next(frames)
  if max(first.shape) > _MOST_PIXELS:
    raise ValueError(
      f"{stem}: frames of {first.shape[1]}x{first.shape[0]} are too large for "
      f"a video of {_MOST_PIXELS} at most; choose fewer --seeds or --scales"
    )
  with contextlib.ExitStack() as stack:
    outputs: list[tuple[Any, Any]] = []
    for path, settings in zip(paths, _ENCODERS.values(), strict=True):
      encoder, options, container_options = settings
      temporary = stack.enter_context(files.replacing(Path(path)))
      container = stack.enter_context(
        av.open(
          str(temporary),
          "w",
          format=Path(path).suffix[1:],
          container_options=container_options,
        )
      )
      stream: Any = container.add_stream(encoder, rate=_FPS, options=options)
      stream.height, stream.width = first.shape[:2]
      stream.pix_fmt = "yuv420p"
      outputs.append((container, stream))
    for frame in itertools.chain([first], frames):
      picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
      for container, stream in outputs:
        picture.pts = None
        container.mux(stream.encode(picture))
    for container, stream in outputs:
      container.mux(stream.encode())
  return paths


def _pad(frame: np.ndarray) -> np.ndarray:
  """Make both sides even, as the encoders need them."""
  height, width, _ = frame.shape
  padding = [(0, height % 2), (0, width % 2), (0, 0)]
  return np.ascontiguousarray(np.pad(frame, padding, mode="edge"))


def _side_by_side(job: Job, scales: Scales, i: int) -> np.ndarray:
  """Return a frame: the chosen scales in a row, on white."""
  resolution = job.chosen[-1]
  side = max(sheets.cell_side(resolution), resolution)
  shown = [sheets.fit(scales[scale][i], side) for scale in job.chosen]
  gap = np.full((len(shown[0]), _GAP, 3), 255, np.uint8)
  parts = [part for image in shown for part in (image, gap)]
  return np.concatenate(parts[:-1], axis=1)
