"""Modes grid, multiscale, truncation, style_mix and noise: sheets of seeds.

Each takes a job and the mode's options, and returns lines for the user.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from msggan_jax.checkpoints import trained
from msggan_jax.data import pictures
from msggan_jax.data.image_files import HEAD_BYTES, mark_of
from msggan_jax.data.pixels import decode_png
from msggan_jax.models.pyramid import resolutions_up_to
from msggan_jax.runtime import files, progress
from msggan_jax.runtime.errors import counted
from msggan_jax.sampling import formats
from msggan_jax.sampling.job import Job, Scales, scale_title

_GRID = 16  # images in a grid, or more, up to about 1,000 pixels a side


def grid(job: Job, format: str = "png") -> list[str]:
  """Write each seed's image and a grid of the first, at every chosen scale.

  The images are made and written batch by batch. Pictures that an earlier,
  perhaps interrupted command has made are kept. Other formats, see `formats`,
  have range and units in `values.json`, too.
  """
  folders = {r: job.output / f"{r}x{r}" for r in job.chosen}
  ending = formats.ENDINGS[format]
  names = [f"seed{seed:04d}.{ending}" for seed in job.seeds]
  missing = [*range(len(names))]
  if format == "png":
    there = (_missing(job, each, names) for each in folders.values())
    missing = sorted(set().union(*there))
  places = iter(missing)
  most = {r: max(_GRID, pictures.grid_columns(r) ** 2) for r in folders}
  made: dict[int, list[np.ndarray]] = {r: [] for r in folders}
  for pyramid in job.batches(missing) if missing else ():
    by_scale = dict(zip(job.available, pyramid, strict=True))
    for images in zip(*(by_scale[r] for r in folders), strict=True):
      place = next(places)
      for (r, folder), image in zip(folders.items(), images, strict=True):
        content = formats.encode(job, format, image, job.marks[place])
        _write(folder / names[place], content)
        if format != "png" and len(made[r]) < most[r]:
          made[r].append(job.generator.view(image, job.bands))
  lines = []
  values = None if format == "png" else formats.range_of(job)
  for r, folder in folders.items():
    if values:
      _write(folder / "values.json", json.dumps(values.as_dict()).encode())
    shown = names[: most[r]]
    images = made[r] or [decode_png((folder / x).read_bytes()) for x in shown]
    path = job.output / f"grid_{r}x{r}.png"
    pictures.save_sheet(pictures.grid(np.stack(images)), path)
    what = f", the first {len(shown)}" if len(shown) < len(names) else ""
    unit = f" of values, {values.describe()}" if values else ""
    count = counted(len(names), "image")
    lines.append(f"{folder}: {count}{unit}; {path}{what}")
  return lines


def _write(path: Path, content: bytes) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path, durable=False) as temporary:
    temporary.write_bytes(content)


def _missing(job: Job, folder: Path, names: Sequence[str]) -> set[int]:
  """Return which of the job's images a folder lacks; say what it holds."""
  there = {path.name for path in folder.glob("*.png")}
  missing = {
    place
    for place, (name, mark) in enumerate(zip(names, job.marks, strict=True))
    if name not in there or _mark_of(folder / name) != mark
  }
  kept, ours = len(names) - len(missing), len(there & {*names})
  for count, what, fate in (
    (kept, "image", "of these seeds, kept"),
    (ours - kept, "older image", "of these seeds, replaced"),
    (len(there) - ours, "other image", "kept"),
  ):
    if count:
      print(f"{folder}: {counted(count, what)} {fate}", file=sys.stderr)
  return missing


def _mark_of(path: Path) -> str | None:
  """Return a picture's mark; None without one, and of half a file."""
  with path.open("rb") as file:
    head = file.read(HEAD_BYTES)
    file.seek(max(0, path.stat().st_size - 12))
    is_whole = file.read()[4:8] == b"IEND"
  return mark_of(head) if is_whole else None


def multiscale(job: Job) -> list[str]:
  """Write a sheet: a row for each scale, a column for each seed."""
  images, config = job.generate(), job.generator.config
  return job.save_sheet(
    "multiscale",
    [images[resolution] for resolution in job.chosen_or_all],
    row_titles=[scale_title(r, config) for r in job.chosen_or_all],
    column_titles=job.titles,
  )


def truncation(job: Job, psis: Sequence[float]) -> list[str]:
  """Write a sheet a scale: a row for each seed, a column for each psi."""
  w = job.styles
  columns = [
    job.synthesize(job.generator.truncate(w, psi), f"psi {psi:g}")
    for psi in psis
  ]
  return job.save_sheets(
    "truncation",
    lambda r: list(zip(*(images[r] for images in columns), strict=True)),
    row_titles=job.titles,
    column_titles=[f"ψ = {psi:g}" for psi in psis],
  )


def style_mix(job: Job, fine_seeds: Sequence[int], crossover: int) -> list[str]:
  """Write a sheet a scale: rows have the coarse styles, columns the fine ones.

  The crossover is the first resolution with the columns' styles.
  """
  coarse = job.truncate(job.styles)
  resolutions = resolutions_up_to(job.generator.config.resolution)
  if crossover not in resolutions[1:]:
    raise ValueError(
      f"--crossover={crossover}: choose a resolution from "
      f"{', '.join(map(str, resolutions[1:]))}"
    )
  layer = 2 * resolutions.index(crossover)
  labels = job.labels_of(len(fine_seeds))
  fine = job.generator.map_latents(job.latents_of(fine_seeds), labels)
  fine = job.truncate(fine)
  pairs = [
    job.generator.mix_styles(row[None], column[None], layer)
    for row, column in itertools.product(coarse, fine)
  ]
  sources = job.synthesize(coarse, "rows")
  tops = job.synthesize(fine, "columns")
  mixed = job.synthesize(jnp.concatenate(pairs), "mixed")

  def rows(resolution: int) -> list[list[np.ndarray | None]]:
    parts = np.split(mixed[resolution], len(coarse))
    pairs = zip(sources[resolution], parts, strict=True)
    return [[None, *tops[resolution]], *([x, *part] for x, part in pairs)]

  config = job.generator.config
  above = scale_title(crossover, config)
  below = scale_title(crossover // 2, config)
  corner = f"columns: from {above}\nrows: up to {below}"
  return job.save_sheets(
    "style_mix",
    rows,
    row_titles=[corner, *job.titles],
    column_titles=["", *job.titles_of(fine_seeds, labels)],
  )


def noise(job: Job, draws: int) -> list[str]:
  """Write a sheet a scale: two draws of the noise, their mean and deviation."""
  w = job.truncate(job.styles)
  if draws < 2:
    raise ValueError(f"--draws={draws}: a deviation needs at least 2")
  measured = [_vary_noise(job, w[i], draws) for i in range(len(w))]
  lines = []
  for resolution in job.chosen:
    maps = [deviation[resolution] for _, _, deviation in measured]
    largest = max(float(np.percentile(each, 99)) for each in maps) or 1.0
    rows = [
      [*examples[resolution], mean[resolution], _colored(each / largest)]
      for (examples, mean, _), each in zip(measured, maps, strict=True)
    ]
    lines += job.save_sheet(
      f"noise_{resolution}x{resolution}",
      rows,
      row_titles=[
        f"{title}\nmean deviation {deviation.mean():.2g}"
        for title, deviation in zip(job.titles, maps, strict=True)
      ],
      column_titles=[
        "a draw",
        "another draw",
        f"mean of {draws}",
        f"deviation\n0 to {largest:.2g} of 255",
      ],
    )
  return lines


def _vary_noise(
  job: Job, w: jax.Array, draws: int
) -> tuple[Scales, Scales, dict[int, np.ndarray]]:
  """Generate an image of w with many draws of the noise, the same for every w.

  Returns by resolution: two images, (2, r, r, C); the mean image; the deviation
  of the draws, averaged over channels, in levels of 255, (r, r).
  """
  keys = trained.example_keys(jax.random.key(0), draws)

  def generate(keys: jax.Array) -> tuple[jax.Array, ...]:
    repeated = jnp.broadcast_to(w[None], (len(keys), *w.shape))
    return job.generator.synthesize(repeated, noise=keys)

  pyramid = progress.map_batches(
    generate, keys, batch_size=job.batch_size, title="draws"
  )
  pyramid = [np.clip(images, -1, 1) for images in pyramid]
  means = job.to_scales([images.mean(axis=0) for images in pyramid])
  examples = job.to_scales([images[:2] for images in pyramid])
  deviations = [images.std(axis=0).mean(axis=-1) * 127.5 for images in pyramid]
  return examples, means, dict(zip(job.available, deviations, strict=True))


def _colored(values: np.ndarray) -> np.ndarray:
  """Color values in [0, 1] from black over red to white, (r, r, 3)."""
  colors = matplotlib.colormaps["inferno"](np.clip(values, 0, 1))
  return np.rint(colors[..., :3] * 255).astype(np.uint8)
