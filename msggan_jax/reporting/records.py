"""A run's records, read while it writes them; they may be damaged."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msggan_jax.config import saved
from msggan_jax.runtime import jsonl

STATS_FILE = "stats.jsonl"

_LARGEST = 1e30  # greater numbers cannot be plotted
_NOT_METRICS = ("step", "kimg", "secs")
_BY_NAME = ("protocols", "weights_hash")  # dictionaries of a row of metrics


@dataclasses.dataclass(frozen=True)
class Run:
  """The records of a run.

  Attributes:
    workdir: Its folder.
    name: Its name on the page.
    config: The configuration by dotted names, such as dataset.path.
    stats: Rows of numbers, by step; each has "step" and "kimg".
    metrics: Rows of `metrics.jsonl` in their order, numbers checked.
    best: `best.json`, or {}.
    rollbacks: Rows of `rollbacks.jsonl`.
    gave_up: The attempts in `not_finite.json`, or [].
    unreadable: Rows of `unreadable.jsonl`.
    damaged_checkpoints: Names of folders moved aside.
    notes: A sentence for each kind of damage in these files.
  """

  workdir: Path
  name: str
  config: Mapping[str, Any]
  stats: Sequence[Mapping[str, float]]
  metrics: Sequence[Mapping[str, Any]]
  best: Mapping[str, Any]
  rollbacks: Sequence[Mapping[str, Any]]
  gave_up: Sequence[Mapping[str, Any]]
  unreadable: Sequence[Mapping[str, Any]]
  damaged_checkpoints: Sequence[str]
  notes: Sequence[str]

  @property
  def kimg(self) -> float:
    """Thousands of images shown so far."""
    return self.stats[-1]["kimg"]

  @property
  def total_kimg(self) -> float | None:
    """Length of the whole run, if the configuration has it."""
    return self.number("total_kimg")

  @property
  def is_done(self) -> bool:
    """Whether the run has reached its end."""
    total = self.total_kimg
    return total is not None and self.kimg >= total * (1 - 1e-6)

  def number(self, field: str) -> float | None:
    """Return a number of the configuration; None: it has none there."""
    return as_number(self.config.get(field))

  def series(self, name: str) -> tuple[list[float], list[float]]:
    """Return the kimg and the values of the rows with a number."""
    rows = [row for row in self.stats if name in row]
    return [row["kimg"] for row in rows], [row[name] for row in rows]

  def names(self, prefix: str = "") -> list[str]:
    """Return the numbers' names with a prefix: scales in order of size."""
    found = {name for row in self.stats for name in row}
    return sorted((n for n in found if n.startswith(prefix)), key=natural)


def read(workdirs: Sequence[str]) -> list[Run]:
  """Read runs.

  Args:
    workdirs: Their folders.

  Returns:
    The runs, with different names.

  Raises:
    FileNotFoundError: If a folder is not the workdir of a run.
    ValueError: If a name is empty, or if a folder is given twice or has no
      rows yet.
  """
  if not workdirs or not all(workdirs):
    raise ValueError(
      f"--workdir={','.join(workdirs)} has an empty name; give A or A,B,C"
    )
  paths = [Path(workdir) for workdir in workdirs]
  if len({path.resolve() for path in paths}) < len(paths):
    raise ValueError(
      f"--workdir={','.join(workdirs)} names a folder twice; name each once"
    )
  names = [path.resolve().name for path in paths]
  if len({*names}) < len(names):
    names = [str(path) for path in paths]
  return [_read(*both) for both in zip(paths, names, strict=True)]


def as_number(value: Any) -> float | None:
  """Return a finite number as float; None if the value is anything else."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return None
  # In this order: a greater int has no float.
  return float(value) if abs(value) <= _LARGEST else None


def number(value: float) -> str:
  """Format a number for people, with three or four digits."""
  if value == 0 or 1e-4 <= abs(value) < 1e4:
    return f"{value:.4g}"
  return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.3e}"


def plain(text: str, most: int = 300) -> str:
  """Return a text that every page and picture can show, cut if it is long."""
  cut = text if len(text) <= most else f"{text[: most - 1]}\u2026"
  return "".join(c if c.isprintable() else "\ufffd" for c in cut)


def natural(name: str) -> tuple:
  """Return a key that sorts "x/4" before "x/16"."""
  head, _, tail = name.rpartition("/")
  return (head, int(tail), "") if tail.isdecimal() else (name, 0, tail)


def _read(workdir: Path, name: str) -> Run:
  config = saved.load_config(workdir)
  notes: list[str] = []
  stats = _rows(workdir / STATS_FILE, notes)
  if not stats:
    raise ValueError(
      f"{workdir} has no rows in {STATS_FILE} yet; a run writes the first "
      f"after {config.get('log_kimg', 'config.log_kimg')} kimg"
    )
  report = _read_object(workdir / "not_finite.json", notes)
  attempts = report.get("attempts")
  return Run(
    workdir=workdir,
    name=name,
    config=saved.by_name(config.to_dict()),
    stats=stats,
    metrics=_metrics(workdir / jsonl.METRICS_FILE, notes),
    best=_read_object(workdir / "best.json", notes),
    rollbacks=_checked(workdir / "rollbacks.jsonl", notes),
    gave_up=[a for a in attempts if isinstance(a, dict)]
    if isinstance(attempts, list)
    else [],
    unreadable=_checked(workdir / "unreadable.jsonl", notes),
    damaged_checkpoints=sorted(
      path.name for path in workdir.glob("checkpoints/*.damaged*")
    ),
    notes=notes,
  )


def _rows(path: Path, notes: list[str]) -> list[dict[str, float]]:
  """Return the numbers of a file's rows; the last row of a step counts."""
  numbers, damaged = [], 0
  for row in _checked(path, notes):
    kept = {k: x for k, v in row.items() if (x := as_number(v)) is not None}
    if _is_placed(kept):
      numbers.append(kept)
    else:
      damaged += 1
  if damaged:
    notes.append(f"{_count(damaged, 'row')} of {path.name} without a step")
  by_step = {row["step"]: row for row in numbers}
  return sorted(by_step.values(), key=lambda row: row["step"])


def _metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
  """Return rows of finite numbers, of strings and of dictionaries of them."""
  kept = []
  for row in _checked(path, notes):
    clean: dict[str, Any] = {}
    for name, value in row.items():
      if name in _BY_NAME:
        parts = value.items() if isinstance(value, dict) else ()
        clean[name] = {
          k: v for k, v in parts if v is None or isinstance(v, str)
        }
      elif (number := as_number(value)) is not None:
        clean[name] = number
      elif isinstance(value, str):
        clean[name] = value
    if _is_placed(clean):
      kept.append(clean)
  return kept


def metric_names(run: Run) -> list[str]:
  """Return the names of a run's metrics in the order of their recording."""
  names = {
    name: None
    for row in run.metrics
    for name, value in row.items()
    if isinstance(value, float) and name not in _NOT_METRICS
  }
  return list(names)


def _is_placed(row: Mapping[str, Any]) -> bool:
  places = [row.get(name) for name in ("step", "kimg")]
  return all(isinstance(x, float) and x >= 0 for x in places)


def _checked(path: Path, notes: list[str]) -> list[dict[str, Any]]:
  """Return a file's rows; damaged ones are noted and skipped."""
  rows = list(jsonl.scan(path))
  # The last row may be one that the run is writing just now.
  damaged = sum(row is None for row in rows[:-1])
  if damaged:
    notes.append(f"{_count(damaged, 'damaged row')} of {path.name}")
  return [row for row in rows if row is not None]


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
  """Return a JSON file's object; {} if there is none or it is damaged."""
  if not path.is_file():
    return {}
  try:
    found = json.loads(path.read_text())
  except (ValueError, RecursionError, OSError):
    found = None
  if isinstance(found, dict):
    return found
  notes.append(f"{path.name}, which is damaged")
  return {}


def _count(number: int, what: str) -> str:
  return f"{number} {what}{'' if number == 1 else 's'}"
