"""Stability during training (paper, Fig. 6)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw

from msggan_jax.runtime import jsonl
from msggan_jax.weights import trained

NUM_LATENTS = 36

_PREFIX = "stability/"
_KEY = 2**31 - 2  # of the latents; training itself draws by example and step
_BATCH = 4  # that of the grids: one shape to compile

# Of the plot, in pixels.
_SIZE = (800, 500)
_MARGIN = 60
_COLORS = (
  "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #000000 #999933 #882255"
).split()


class Stability:
  """Mean squared change of fixed latents' images between snapshots.

  What it remembers are the images of the last snapshot. Nothing of it is
  stored: made again with the weights of the checkpoint that a run resumes
  from, it remembers the same.
  """

  def __init__(self, generator: trained.Generator):
    """Remember the images of the weights at hand.

    Args:
      generator: With the EMA weights of step 0 or of the last checkpoint.
    """
    self._last = _images(generator)

  def update(self, generator: trained.Generator) -> dict[str, float]:
    """Compare with the last snapshot, and remember this one.

    Args:
      generator: With the EMA weights of now.

    Returns:
      "stability/<res>": mean squared error between the images of the 36
      latents, in [-1, 1], with fixed noise, by scale.
    """
    images = _images(generator)
    changes = {
      f"{_PREFIX}{now.shape[1]}": float(np.square(now - before).mean())
      for now, before in zip(images, self._last, strict=True)
    }
    self._last = images
    return changes


def read_rows(stats_path: Path) -> list[dict[str, float]]:
  """Return what the rows of a `stats.jsonl` tell of stability."""
  found = []
  for row in jsonl.rows(stats_path):
    changes = {k: x for k, x in row.items() if k.startswith(_PREFIX)}
    if changes:
      found.append({"kimg": row["kimg"], **changes})
  return found


def plot(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
  """Draw Fig. 6: the change by time, a line a scale, logarithmic.

  Args:
    rows: With "kimg" and "stability/<res>".

  Returns:
    uint8 picture, (H, W, 3).
  """
  canvas = Image.new("RGB", _SIZE, "white")
  draw = ImageDraw.Draw(canvas)
  names = sorted(
    {name for row in rows for name in row if name.startswith(_PREFIX)},
    key=lambda name: int(name.removeprefix(_PREFIX)),
  )
  points = {
    name: [
      (row["kimg"], row[name])
      for row in rows
      if 0 < row.get(name, 0) < math.inf
    ]
    for name in names
  }
  values = [value for line in points.values() for _, value in line]
  if not values:
    raise ValueError("no change between snapshots is known yet")
  last_kimg = max(row["kimg"] for row in rows)
  low = math.floor(math.log10(min(values)))
  high = max(math.ceil(math.log10(max(values))), low + 1)
  width, height = (side - 2 * _MARGIN for side in _SIZE)

  def place(kimg: float, value: float) -> tuple[float, float]:
    x = kimg / last_kimg
    y = (math.log10(value) - low) / (high - low)
    return _MARGIN + x * width, _MARGIN + (1 - y) * height

  for exponent in range(low, high + 1):
    left, y = place(0, 10.0**exponent)
    draw.line((left, y, left + width, y), fill="#dddddd")
    draw.text((left - 8, y), f"1e{exponent}", fill="black", anchor="rm")
  for quarter in range(5):
    kimg = last_kimg * quarter / 4
    x, bottom = place(kimg, 10.0**low)
    draw.text((x, bottom + 8), f"{kimg:g}", fill="black", anchor="ma")
  title = f"mean squared change of {NUM_LATENTS} latents' images, by kimg"
  draw.text((_MARGIN, 20), title, fill="black")
  for i, (name, line) in enumerate(points.items()):
    color = _COLORS[i % len(_COLORS)]
    pixels = [place(*point) for point in line]
    draw.line(pixels, fill=color, width=2)
    for x, y in pixels:
      draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    resolution = name.removeprefix(_PREFIX)
    label = f"{resolution}x{resolution}"
    draw.text((_SIZE[0] - _MARGIN + 4, _MARGIN + 16 * i), label, fill=color)
  return np.asarray(canvas)


def _images(generator: trained.Generator) -> tuple[np.ndarray, ...]:
  config = generator.config
  key = jax.random.fold_in(jax.random.key(config.seed), _KEY)
  z = generator.sample_latents(key, NUM_LATENTS)
  labels = None
  if config.num_classes:
    labels = np.arange(NUM_LATENTS) % config.num_classes
  return trained.in_batches(generator, z, _BATCH, labels)
