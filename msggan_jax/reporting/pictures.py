"""Pictures inside of a page: plots as SVG, sample grids as WebP."""

import base64
import dataclasses
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from msggan_jax.reporting.records import Run, number, plain
from msggan_jax.runtime import plots
from msggan_jax.runtime.plots import Line

_MOST_LINES = 12  # of a plot

_MOST_PIXELS = 2**26  # of a grid; more would be no grid of ours
_LOSSLESS = 2**14  # pixels up to which WebP keeps every one
_SIDE = 512  # pixels of a picture, at most
_MOST_SHEETS = 24  # of a run's metrics
_FEWEST_FRAMES, _ALL_FRAMES = 3, 120  # of a scale, of a page: 10 MB at worst


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
  """Draw lines over the thousands of images shown, at most twelve of them.

  A logarithmic axis leaves out values of 0 or less. Numbers of "..._bytes" are
  shown in GB. Without points: None.
  """
  scale, unit = (1e9, " GB") if title.endswith("_bytes") else (1, "")
  lines = [
    Line(plain(x.label), [(kimg, y / scale) for kimg, y in x.points], x.star)
    for x in lines
  ]
  lines = [line.on_log_axis() for line in lines] if log else lines
  lines = [line for line in lines if line.points]
  if not lines:
    return None
  if len(lines) > _MOST_LINES:
    caption += f" The first {_MOST_LINES} of {len(lines)} lines."
    lines = lines[:_MOST_LINES]
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
  scales: dict[int, list[tuple[float, Path]]] = {}
  for folder in run.workdir.glob("samples/*"):
    if scale := re.fullmatch(r"scales|([0-9]{1,5})x\1", folder.name):
      scales[int(scale[1] or 0)] = sorted(
        (float(path.stem), path)
        for path in folder.glob("*.png")
        if re.fullmatch(r"[0-9]+\.[0-9]+", path.stem)
      )
  most = max(_FEWEST_FRAMES, _ALL_FRAMES // (total * max(1, len(scales))))
  made = {}
  with ThreadPoolExecutor() as threads:
    for scale, grids in sorted(scales.items()):
      if len(grids) > most:  # evenly, the first and last included
        places = np.linspace(0, len(grids) - 1, most).round().astype(int)
        grids = [grids[i] for i in places]
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
  try:
    with Image.open(path, formats=["PNG"]) as image:
      if image.width * image.height > _MOST_PIXELS:
        return None
      image = image.convert("RGBA")
      image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
    return None
  white = Image.new("RGBA", image.size, "white")
  image = Image.alpha_composite(white, image).convert("RGB")
  file = io.BytesIO()
  lossless = image.width * image.height <= _LOSSLESS
  image.save(file, "WEBP", lossless=lossless, quality=70, method=3)
  return _data_uri("webp", file.getvalue())


def _data_uri(kind: str, content: bytes) -> Markup:
  text = base64.b64encode(content).decode()
  return Markup(f"data:image/{kind};base64,{text}")
