"""Pictures inside of a page: plots as SVG, sample grids as WebP."""

import base64
import dataclasses
import functools
import io
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from msggan_jax.data.pictures import tiles_per_side
from msggan_jax.models import base_grid
from msggan_jax.reporting.records import Points, Run, number, plain
from msggan_jax.runtime import plots
from msggan_jax.runtime.plots import Line

_MOST_LINES = 12  # of a plot

_MOST_PIXELS = 2**26  # of a grid; more would be no grid of ours
_LOSSLESS = 2**14  # pixels up to which WebP keeps every one
_SIDE = 512  # pixels of a picture, at most
_MOST_SHEETS = 24  # of a run's metrics
_FEWEST_FRAMES, _ALL_FRAMES = 3, 120  # of a scale, of a page: 10 MB at worst

_DIVERSITY_SIDE = 32  # images are compared at this size, at most
_DIVERSITY_GRIDS = 30  # spread over training
_FEWEST_IMAGES = 16  # whose diversity means anything


@dataclasses.dataclass(frozen=True)
class Plot:
  """A plot: its words, its data URI, and its numbers to be read aloud."""

  title: str
  caption: str
  uri: Markup
  numbers: str


def plot(
  title: str, caption: str, lines: Sequence[Line], *, log: bool = False
) -> Plot | None:
  """Draw at most twelve lines over the thousands of images shown.

  A logarithmic axis leaves out values of 0 or less. Numbers of "..._bytes" are
  shown in GB. Without points: None.
  """
  scale, unit = (1e9, " GB") if title.endswith("_bytes") else (1, "")
  lines = [
    Line(plain(x.label), [(kimg, y / scale) for kimg, y in x.points], x.star)
    for x in lines
  ]
  lines = [line.on_log_axis() for line in lines] if log else lines
  lines = [line for line in lines if line.points][:_MOST_LINES]
  if not lines:
    return None
  file = io.BytesIO()
  options = {"format": "svg", "transparent": True, "metadata": {"Date": None}}
  if plots.draw(file, lines, log=log, ylabel=unit.strip(), **options):
    caption += " Rare values outside of the axis are cut off."
  ends = [f"{x.label} {number(x.points[-1][1])}{unit}" for x in lines]
  numbers = f"At the end: {', '.join(ends)}."
  return Plot(title, caption, _data_uri("svg+xml", file.getvalue()), numbers)


def strips(run: Run, total: int) -> dict[int, list[tuple[float, Markup]]]:
  """Return sample grids over training, (kimg, data URI), by scale.

  Scale 0 shows all scales of the same latents. `total` runs share a page.
  """
  scales = _scales(run.workdir)
  most = max(_FEWEST_FRAMES, _ALL_FRAMES // (total * max(1, len(scales))))
  made = {}
  with ThreadPoolExecutor() as threads:
    for scale, grids in scales.items():
      grids = _spread(grids, most)
      uris = threads.map(encode, [path for _, path in grids])
      pairs = zip(grids, uris, strict=True)
      made[scale] = [(kimg, uri) for (kimg, _), uri in pairs if uri]
  return {scale: frames for scale, frames in made.items() if frames}


def stills(run: Run) -> list[tuple[str, Path]]:
  """Return titles and files of the reals and of each metric's newest sheet."""
  # Names in somebody's records are no paths.
  folders = {folder.name: folder for folder in run.workdir.iterdir()}
  found = []
  for name in run.metric_names:
    if folder := folders.get(name.replace("/", "_at_")):
      sheets = [x for x in folder.glob("*.png") if x.stem.isdecimal()]
      steps = {int(sheet.stem): sheet for sheet in sheets}
      found += [(max(steps), name, steps[max(steps)])] if steps else []
  found.sort(key=lambda each: -each[0])  # a stage's scale ends with it
  newest = [(name, path) for _, name, path in found[:_MOST_SHEETS]]
  return [("Real images", run.workdir / "reals.png"), *newest]


def encode(path: Path) -> Markup | None:
  """Return a picture's data URI, or None if it is not readable (yet)."""
  image = _open(path)
  if image is None:
    return None
  image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
  file = io.BytesIO()
  lossless = image.width * image.height <= _LOSSLESS
  image.save(file, "WEBP", lossless=lossless, quality=70, method=3)
  return _data_uri("webp", file.getvalue())


def diversity(run: Run) -> Points:
  """Compare how much generated images differ with how much real ones do.

  For every image of a grid the nearest other one is found, by the root mean
  square of their pixels' differences at 32x32 or less. The median over fakes,
  divided by that over reals, is 0 if all latents give one image. Returns (kimg,
  ratio), nothing if the grids have fewer than 16 images.
  """
  resolution = int(run.number("resolution") or 0)
  try:
    grid = base_grid.parse(run.config["base_grid"])
  except ValueError:  # of a damaged file
    return []
  tiles = _tiles_of(run.config)
  chosen = {}  # of a time the largest scale up to that side, else the next one
  for scale, grids in _scales(run.workdir).items():
    for kimg, path in grids if 0 < scale <= resolution else ():
      if scale <= _DIVERSITY_SIDE or kimg not in chosen:
        chosen[kimg] = scale, path

  @functools.cache
  def reals_at(side: int) -> tuple[int, float | None]:
    reals = _tiles(run.workdir / "reals.png", tiles * resolution, side, grid)
    return len(reals), _nearest(reals)

  points = []
  for kimg, (scale, path) in _spread(sorted(chosen.items()), _DIVERSITY_GRIDS):
    side = min(scale, _DIVERSITY_SIDE)
    # As many fakes as reals: of more images, one is nearer.
    count, of_reals = reals_at(side)
    of_fakes = _nearest(_tiles(path, tiles * scale, side, grid)[:count])
    if of_reals and of_fakes is not None:
      points.append((kimg, of_fakes / of_reals))
  return points


def _tiles_of(config: Mapping[str, Any]) -> int:
  """Return `pictures.tiles_per_side` of a run, whose config may be damaged."""
  channels = config.get("channels")
  if config.get("bands") or not isinstance(channels, int):
    return 1
  return tiles_per_side(channels, colors=not config.get("dataset.range"))


def _data_uri(kind: str, content: bytes) -> Markup:
  text = base64.b64encode(content).decode()
  return Markup(f"data:image/{kind};base64,{text}")


def _scales(workdir: Path) -> dict[int, list[tuple[float, Path]]]:
  """Return a run's grids, (kimg, file) in order, by scale; 0: all scales."""
  found = {}
  for folder in workdir.glob("samples/*"):
    scale = re.fullmatch(r"scales|([0-9]{1,5})x\1", folder.name)
    if scale:
      found[int(scale[1] or 0)] = sorted(
        (float(path.stem), path)
        for path in folder.glob("*.png")
        if re.fullmatch(r"[0-9]+\.[0-9]+", path.stem)
      )
  return dict(sorted(found.items()))


def _spread(grids: list, most: int) -> list:
  """Return at most so many, evenly spread, the first and last included."""
  if len(grids) <= most:
    return grids
  places = np.linspace(0, len(grids) - 1, most).round().astype(int)
  return [grids[i] for i in places]


def _open(path: Path) -> Image.Image | None:
  """Return a grid's picture as RGB, or None if it is not readable (yet)."""
  try:
    with Image.open(path, formats=["PNG"]) as image:
      if image.width * image.height > _MOST_PIXELS:
        return None
      image = image.convert("RGBA")
      white = Image.new("RGBA", image.size, "white")
      return Image.alpha_composite(white, image).convert("RGB")
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
    return None


def _tiles(
  path: Path, tile: int, side: int, grid: tuple[int, int]
) -> np.ndarray:
  """Return the images of a sheet, of resolution `tile`, made `side`: (N, D).

  (0, 0) if the file is not readable or has another form.
  """
  image = _open(path)
  tall, wide = base_grid.image_size(tile, grid)
  if image is None or not side or image.width % wide or image.height % tall:
    return np.empty((0, 0), np.float32)
  columns, rows = image.width // wide, image.height // tall
  tall, wide = base_grid.image_size(side, grid)
  image = image.resize((columns * wide, rows * tall), Image.Resampling.BOX)
  pixels = np.asarray(image, np.float32)
  tiles = pixels.reshape(rows, tall, columns, wide, 3).swapaxes(1, 2)
  return tiles.reshape(rows * columns, -1)


def _nearest(images: np.ndarray) -> float | None:
  """Return the median distance of images, (N, D), to their nearest other.

  In [0, 255]; None of too few images.
  """
  if len(images) < _FEWEST_IMAGES:
    return None
  squares = np.square(images).sum(1)
  distances = squares[:, None] + squares[None] - 2 * images @ images.T
  np.fill_diagonal(distances, np.inf)
  nearest = np.maximum(distances.min(1), 0) / images.shape[1]
  return float(np.median(np.sqrt(nearest)))
