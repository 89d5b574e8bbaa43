"""A run's records, read while it writes them; they may be damaged."""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msggan_jax.config import saved
from msggan_jax.metrics import protocols
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.runtime import jsonl
from msggan_jax.runtime.errors import counted

STATS_FILE = "stats.jsonl"

Points = Sequence[tuple[float, float]]  # (kimg, value), by time

_LARGEST = 1e30  # greater numbers cannot be plotted
_WORSE = 0.1  # share of a score: less is noise
_BY_NAME = ("protocols", "weights_hash")  # dictionaries of a row of metrics


@dataclasses.dataclass(frozen=True)
class Scores:
  """The evaluations of one protocol with the same data and weights."""

  protocol: Protocol
  description: str  # the recipe in words
  points: Points
  best_kimg: float
  best: float
  noise: float  # twice the largest recorded spread, or 0

  def is_worse(self, value: float, than: float) -> bool:
    """Return whether a score is worse than another beyond noise."""
    worse = than - value if self.protocol.higher_is_better else value - than
    return worse > max(_WORSE * abs(than), self.noise)


@dataclasses.dataclass(frozen=True)
class Run:
  """The records of a run; `notes` says what was damaged or skipped."""

  workdir: Path
  name: str  # on the page
  config: Mapping[str, Any]  # by dotted names, such as dataset.path
  stats: Sequence[Mapping[str, float]]  # finite; by step, which each has
  metrics: Sequence[Mapping[str, Any]]  # `metrics.jsonl` in its order
  best: Mapping[str, Any]  # `best.json`, or {}
  not_finite: Mapping[str, Any]  # `not_finite.json`, or {}
  notes: Sequence[str]

  @property
  def kimg(self) -> float:
    """Thousands of images shown so far."""
    return self.stats[-1]["kimg"]

  @property
  def is_done(self) -> bool:
    """Whether the run has reached its end: less than a batch is missing."""
    sizes = str(self.config.get("grow_batch_sizes") or "")
    sizes = [int(size) for size in re.findall(r":(\d{1,9})", sizes)]
    batch = max([self.number("batch_size") or 1, *sizes])
    return 1000 * (self.total_kimg - self.kimg) < batch

  @property
  def total_kimg(self) -> float:
    """Length of the whole run; so far, if the configuration has none."""
    return self.number("total_kimg") or self.kimg

  def number(self, field: str) -> float | None:
    """Return a number of the configuration; None: it has none there."""
    return _as_number(self.config.get(field))

  def series(self, name: str) -> Points:
    """Return a number over training; the last row of a time counts."""
    rows = [
      row
      for row in (*self.stats, *self.metrics)
      if isinstance(row.get(name), float)
    ]
    return sorted({row["kimg"]: row[name] for row in rows}.items())

  def names(self, prefix: str = "") -> list[str]:
    """Return the numbers' names with a prefix: scales in order of size."""
    found = {name for row in self.stats for name in row}
    return sorted((n for n in found if n.startswith(prefix)), key=natural)

  @functools.cached_property
  def scores(self) -> Scores | None:
    """The evaluations of the metric that decides which is best."""
    wanted = str(self.config.get("metrics", "")).split(",")[0].strip()
    wanted = wanted or self.best.get("metric")  # of the defaults
    recipes = [
      (name, recipe, row)
      for row in reversed(self.metrics)
      for name, recipe in row.get("protocols", {}).items()  # the first decides
    ]
    # A later evaluation by another protocol decides nothing.
    usable = (
      (protocol, recipe or name, row)
      for name, recipe, row in sorted(recipes, key=lambda x: x[0] != wanted)
      if (protocol := _parse(name, row))
      and isinstance(row.get(protocol.main_value), float)
    )
    if (first := next(usable, None)) is None:
      return None
    protocol, recipe, row = first
    name = protocol.main_value
    rows = protocols.rows_like(self.metrics, protocol, like=row)
    best = protocols.best_row(rows, protocol, like=row)
    spreads = [
      row.get(f"{name}{x}") for row in rows for x in ("_std", "_error")
    ]
    return Scores(
      protocol=protocol,
      description=plain(recipe),
      points=[(row["kimg"], row[name]) for row in rows],
      best_kimg=best["kimg"],
      best=best[name],
      noise=2 * max((x for x in spreads if isinstance(x, float)), default=0.0),
    )

  @property
  def metric_names(self) -> list[str]:
    """Names of the metrics in the order of their recording."""
    pairs = [pair for row in self.metrics for pair in row.items()]
    names = dict.fromkeys(k for k, v in pairs if isinstance(v, float))
    return [name for name in names if name not in ("step", "kimg", "secs")]


def read(workdirs: Sequence[str]) -> list[Run]:
  """Read runs; those of one folder name are named by their folders, too."""
  whole = ",".join(workdirs)
  # Such as runs/demo-cats,stylegan. Path.is_dir raises for long names.
  if os.path.isdir(whole):
    workdirs = [whole]
  given = f"--workdir={whole}"
  if not workdirs or not all(workdirs):
    raise ValueError(f"{given} has an empty name; give A or A,B,C")
  paths = [Path(workdir).resolve() for workdir in workdirs]
  if len({*paths}) < len(paths):
    raise ValueError(f"{given} names a folder twice; name each once")
  names = [path.name for path in paths]
  if len({*names}) < len(names):
    shared = os.path.commonpath([path.parent for path in paths])
    names = [os.path.relpath(path, shared) for path in paths]
  return [_read(Path(x), name) for x, name in zip(workdirs, names, strict=True)]


def number(value: float) -> str:
  """Format a number for people, with three or four digits."""
  if value == 0 or 1e-4 <= abs(value) < 9999.5:
    return f"{value:.4g}"
  return f"{value:,.0f}" if 9999.5 <= abs(value) < 1e9 else f"{value:.3e}"


def plain(text: str, most: int = 300) -> str:
  """Return a text that every page and picture can show, cut if it is long."""
  cut = text if len(text) <= most else f"{text[: most - 1]}\u2026"
  return "".join(c if c.isprintable() else "\ufffd" for c in cut)


def natural(name: str) -> tuple:
  """Return a key that sorts "x/4" before "x/16"."""
  head, _, tail = name.rpartition("/")
  return (head, len(tail), tail) if tail.isdecimal() else (name, 0, tail)


def _read(workdir: Path, name: str) -> Run:
  config = saved.load_config(workdir)
  notes: list[str] = []
  stats = {
    row["step"]: {k: v for k, v in row.items() if isinstance(v, float)}
    for row in _rows(workdir / STATS_FILE, notes)
  }  # the last row of a step counts
  if not stats:
    raise ValueError(
      f"{workdir} has no rows in {STATS_FILE} yet; a run writes the first "
      f"after {config.get('log_kimg', 'config.log_kimg')} kimg"
    )
  damaged = sorted(x.name for x in workdir.glob("checkpoints/*.damaged*"))
  notes += [f"the damaged checkpoint {folder}" for folder in damaged]
  return Run(
    workdir=workdir,
    # The ends of paths tell them apart.
    name=plain(name if len(name) <= 80 else f"\u2026{name[-79:]}"),
    config=saved.by_name(config.to_dict()),
    stats=[stats[step] for step in sorted(stats)],
    metrics=_rows(workdir / jsonl.METRICS_FILE, notes),
    best=_read_object(workdir / "best.json", notes),
    not_finite=_read_object(workdir / "not_finite.json", notes),
    notes=notes,
  )


def _parse(name: str, row: Mapping[str, Any]) -> Protocol | None:
  """Return a row's protocol by name, or None if there is no such one."""
  extractors = [protocols.EFFICIENTNET, *row.get("weights_hash", ())]
  try:
    return protocols.parse([name], extractors)[0]
  except ValueError:
    return None


def _rows(path: Path, notes: list[str]) -> list[dict[str, Any]]:
  """Return a file's rows with a step; others are noted and skipped."""
  rows = [_clean(row or {}) for row in jsonl.scan(path)]
  # The last row may be one that the run is writing just now.
  damaged = sum(not row for row in rows[:-1])
  if damaged:
    notes.append(f"{counted(damaged, 'damaged row')} of {path.name}")
  return [row for row in rows if row]


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
  """Return a row's finite numbers, strings and dictionaries of strings.

  A row without a step or kimg has none.
  """
  clean: dict[str, Any] = {}
  for name, value in row.items():
    if name in _BY_NAME:
      parts = value.items() if isinstance(value, dict) else ()
      clean[name] = {k: v for k, v in parts if v is None or isinstance(v, str)}
    elif (number := _as_number(value)) is not None:
      clean[name] = number
    elif isinstance(value, str):
      clean[name] = value
  places = [clean.get(name) for name in ("step", "kimg")]
  is_placed = all(isinstance(x, float) and x >= 0 for x in places)
  return clean if is_placed else {}


def _as_number(value: Any) -> float | None:
  """Return a finite number as float; None if the value is anything else."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return None
  # In this order: a greater int has no float.
  return float(value) if abs(value) <= _LARGEST else None


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
  """Return a JSON file's object; {} if there is none or it is damaged."""
  if not path.is_file():
    return {}
  found = None
  with contextlib.suppress(OSError):
    found = jsonl.parse(path.read_text(errors="replace"))
  if found is None:
    notes.append(f"{path.name}, which is damaged")
  return found or {}
