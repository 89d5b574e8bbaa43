"""A run's sample grids over training, as WebP, and how diverse they are."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from msggan_jax.models import base_grid
from msggan_jax.reporting.records import Run

_MOST_PIXELS = 2**26  # of a grid; more would be no grid of ours
_LOSSLESS = 2**14  # pixels up to which WebP keeps every one

_DIVERSITY_SIDE = 32  # images are compared at this size, at most
_FEWEST_IMAGES = 16  # whose diversity means anything


@dataclasses.dataclass(frozen=True)
class Detail:
  """How much of the pictures is kept.

  Attributes:
    frames: Most pictures of a strip.
    side: Most pixels of a side.
    quality: Of lossy WebP.
  """

  frames: int
  side: int
  quality: int


# From the best to the smallest.
DETAILS = (
  Detail(frames=25, side=768, quality=80),
  Detail(frames=15, side=640, quality=70),
  Detail(frames=9, side=512, quality=60),
  Detail(frames=5, side=384, quality=50),
  Detail(frames=3, side=256, quality=40),
)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture inside of the page.

  Attributes:
    uri: A data URI of WebP.
    width: Of the picture as it is stored.
    height: Likewise.
  """

  uri: str
  width: int
  height: int


@dataclasses.dataclass(frozen=True)
class Strip:
  """The pictures of one scale over training.

  Attributes:
    scale: "32x32", or "scales" for all of the same latents.
    frames: (kimg, picture), in order.
  """

  scale: str
  frames: Sequence[tuple[float, Picture]]


def strips(run: Run, detail: Detail) -> list[Strip]:
  """Return a run's strips: all scales of the same latents, then each scale."""
  made = []
  for folder in _folders(run.workdir):
    chosen = _spread(_grids(folder), detail.frames)
    with ThreadPoolExecutor() as threads:
      pictures = threads.map(lambda g: _encode(g[1], detail), chosen)
      frames = [
        (kimg, picture)
        for (kimg, _), picture in zip(chosen, pictures, strict=True)
        if picture is not None
      ]
    if frames:
      made.append(Strip(folder.name, frames))
  return made


def estimate(run: Run, detail: Detail) -> int:
  """Return about how many characters the strips have."""
  count = 0
  for folder in _folders(run.workdir):
    grids = _grids(folder)
    newest = _encode(grids[-1][1], detail) if grids else None
    if newest is not None:
      count += len(newest.uri) * min(len(grids), detail.frames)
  return count


def reals(run: Run, detail: Detail) -> Picture | None:
  """Return the picture of real images, or None."""
  return _encode(run.workdir / "reals.png", detail)


def diversity(run: Run, most: int = 30) -> list[tuple[float, float]]:
  """Compare how much generated images differ with how much real ones do.

  For every image of a grid the nearest other one is found, by the root mean
  square of their pixels' differences at 32x32 or less. The median over fakes,
  divided by that over reals, is 0 if all latents give one image.

  Args:
    run: The run.
    most: Number of grids, spread over training.

  Returns:
    (kimg, ratio); empty if the grids have fewer than 16 images.
  """
  resolution = int(run.number("resolution") or 0)
  folders = {folder.name: folder for folder in _folders(run.workdir)}
  sides = [
    side
    for name in folders
    if (side := _side(name)) and side <= min(_DIVERSITY_SIDE, resolution)
  ]
  if not sides:
    return []
  side = max(sides)
  grid = _base_grid(run)
  of_reals = _nearest(run.workdir / "reals.png", resolution, side, grid)
  if not of_reals:
    return []
  grids = _spread(_grids(folders[f"{side}x{side}"]), most)
  ratios = [(kimg, _nearest(path, side, side, grid)) for kimg, path in grids]
  return [(kimg, r / of_reals) for kimg, r in ratios if r is not None]


def _folders(workdir: Path) -> list[Path]:
  """Return the scales' folders, "scales" first."""
  found = [
    path
    for path in workdir.glob("samples/*")
    if path.is_dir() and (path.name == "scales" or _side(path.name))
  ]
  return sorted(found, key=lambda path: _side(path.name))


def _side(name: str) -> int:
  """Return 32 for "32x32", 0 for other names."""
  height, _, width = name.partition("x")
  is_side = height == width and height.isascii() and height.isdecimal()
  return int(height) if is_side and len(height) < 6 else 0


def _grids(folder: Path) -> list[tuple[float, Path]]:
  """Return (kimg, file) of a folder's grids, in order."""
  found = []
  for path in folder.glob("*.png"):
    whole, _, fraction = path.stem.partition(".")
    if (whole + fraction).isdecimal() and path.stem.isascii():
      found.append((float(path.stem), path))
  return sorted(found)


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
      if "A" in image.getbands():
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
      return image.convert("RGB")
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
    return None


def _encode(path: Path, detail: Detail) -> Picture | None:
  image = _open(path)
  if image is None:
    return None
  larger = max(image.size)
  if larger > detail.side:
    factor = detail.side / larger
    size = [max(1, round(x * factor)) for x in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
  stream = io.BytesIO()
  image.save(
    stream,
    "WEBP",
    lossless=image.width * image.height <= _LOSSLESS,
    quality=detail.quality,
    method=3,
  )
  text = base64.b64encode(stream.getvalue()).decode()
  return Picture(f"data:image/webp;base64,{text}", *image.size)


def _base_grid(run: Run) -> tuple[int, int]:
  try:
    return base_grid.parse(run.config.get("base_grid", base_grid.SQUARE))
  except ValueError:  # of a damaged file
    return base_grid.parse(base_grid.SQUARE)


def _nearest(
  path: Path, tile: int, side: int, grid: tuple[int, int]
) -> float | None:
  """Return the median distance of a grid's images to their nearest other.

  Args:
    path: The grid.
    tile: Resolution of the images in the grid.
    side: Resolution at which images are compared.
    grid: The base grid.

  Returns:
    In [0, 255]; None if the grid is not readable or has too few images.
  """
  image = _open(path)
  tall, wide = base_grid.image_size(tile, grid)
  if image is None or image.width % wide or image.height % tall:
    return None
  columns, rows = image.width // wide, image.height // tall
  if columns * rows < _FEWEST_IMAGES:
    return None
  tall, wide = base_grid.image_size(side, grid)
  image = image.resize((columns * wide, rows * tall), Image.Resampling.BOX)
  pixels = np.asarray(image, np.float32)
  tiles = pixels.reshape(rows, tall, columns, wide, 3).swapaxes(1, 2)
  flat = tiles.reshape(rows * columns, -1)
  squares = np.square(flat).sum(1)
  distances = squares[:, None] + squares[None] - 2 * flat @ flat.T
  np.fill_diagonal(distances, np.inf)
  nearest = np.maximum(distances.min(1), 0) / flat.shape[1]
  return float(np.median(np.sqrt(nearest)))
