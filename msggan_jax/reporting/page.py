"""One HTML file about runs, with everything in it."""

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from markupsafe import Markup

from msggan_jax import models
from msggan_jax.models import base_grid
from msggan_jax.reporting import (
  figures,
  filmstrips,
  scores,
  verdict,
)
from msggan_jax.reporting.advice import tail
from msggan_jax.reporting.charts import Chart
from msggan_jax.reporting.filmstrips import DETAILS, Detail
from msggan_jax.reporting.records import (
  Run,
  metric_names,
  natural,
  number,
  plain,
)
from msggan_jax.reporting.verdict import Verdict
from msggan_jax.runtime.clock import duration

NAME = "report.html"

_HERE = Path(__file__).parent
_MOST_BYTES = 15_000_000
_MOST_FIELDS = 300  # of a configuration
_MOST_ROWS = 30  # of a table
_MOST_EVALUATIONS = 12


@dataclasses.dataclass(frozen=True)
class Section:
  """Charts under a heading."""

  title: str
  charts: Sequence[Chart]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text; the first cell of a row is its heading."""

  caption: str
  heads: Sequence[str]
  rows: Sequence[Sequence[str]]


def write(runs: Sequence[Run], path: Path) -> int:
  """Write the page, and replace an earlier one only when it is complete.

  Args:
    runs: The records.
    path: The file.

  Returns:
    Its size in bytes.

  Raises:
    ValueError: If the file cannot be written there.
  """
  with _replacing(path) as file:
    page = render(runs)
    file.write(page)
  return len(page)


def render(runs: Sequence[Run]) -> bytes:
  """Return the page, at most 15 MB.

  Raises:
    ValueError: If the records are too large even with small pictures.
  """
  context = _context(runs)
  for detail in DETAILS:
    about = sum(filmstrips.estimate(run, detail) for run in runs)
    if about > _MOST_BYTES and detail is not DETAILS[-1]:
      continue  # without the time to make all pictures
    page = _render(context | _pictures(runs, detail))
    if len(page) <= _MOST_BYTES:
      return page
  raise ValueError(
    f"the report of {len(runs)} runs has {len(page):,} bytes, more than "
    f"{_MOST_BYTES:,}; name fewer runs"
  )


def _context(runs: Sequence[Run]) -> dict[str, Any]:
  """Return the template's variables, except pictures."""
  of_grids = [filmstrips.diversity(run) for run in runs]
  verdicts = [
    verdict.judge(run, points)
    for run, points in zip(runs, of_grids, strict=True)
  ]
  best = [judged.scores for judged in verdicts]
  sections = [
    Section("Losses", figures.losses(runs)),
    Section("Penalties per scale", figures.penalties(runs)),
    Section(
      "Metrics",
      figures.metrics(runs, best) + figures.diversity(runs, of_grids),
    ),
    Section("Stability per scale", figures.stability(runs)),
    Section("Speed and memory", figures.speed_and_memory(runs)),
    Section("Where the time went", figures.times(runs)),
    Section("Other records", figures.others(runs)),
  ]
  return {
    "title": ", ".join(plain(run.name, 80) for run in runs),
    "written": datetime.datetime.now(datetime.UTC).strftime(
      "%Y-%m-%d %H:%M UTC"
    ),
    "runs": [_about(*both) for both in zip(runs, verdicts, strict=True)],
    "comparison": scores.compare(runs, best) if len(runs) > 1 else "",
    "sections": [section for section in sections if section.charts],
    "differing": _differing(runs) if len(runs) > 1 else None,
    "fields": _fields(runs),
    "tables": {
      "Penalties per scale": [
        table for prefix in figures.PENALTIES for table in _ends(runs, prefix)
      ],
      "Stability per scale": _ends(runs, figures.STABILITY),
      "Metrics": [_evaluations(run) for run in runs if run.metrics],
      "Where the time went": [_times(runs)],
    },
    "css": _source("page.css"),
    "script": _source("page.js"),
    "script_hash": base64.b64encode(
      hashlib.sha256((_HERE / "page.js").read_bytes()).digest()
    ).decode(),
  }


def _render(context: Mapping[str, Any]) -> bytes:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  text = environment.get_template("page.html").render(context)
  return text.encode("utf-8", "replace")


def _source(name: str) -> Markup:
  """Return a file of ours that needs no escaping."""
  return Markup((_HERE / name).read_text())


def _pictures(runs: Sequence[Run], detail: Detail) -> dict[str, Any]:
  """Return the strips of all runs by scale, and the real images."""
  by_scale: dict[str, list[dict[str, Any]]] = {}
  for run in runs:
    for strip in filmstrips.strips(run, detail):
      last = len(strip.frames) - 1
      frames = [
        {
          "kimg": number(kimg),
          "picture": picture,
          "is_key": place in (0, last // 2, last),
        }
        for place, (kimg, picture) in enumerate(strip.frames)
      ]
      row = {"run": plain(run.name, 80), "frames": frames}
      by_scale.setdefault(_scale_title(strip.scale), []).append(row)
  newest = {
    row["run"]: row["frames"][-1]["picture"]
    for row in by_scale.get(_scale_title("scales"), [])
  }
  reals = [(plain(run.name, 80), filmstrips.reals(run, detail)) for run in runs]
  return {
    "newest": newest,
    "strips": by_scale,
    "reals": [(name, picture) for name, picture in reals if picture],
  }


def _scale_title(scale: str) -> str:
  return "All scales" if scale == "scales" else scale.replace("x", "\u00d7")


def _about(run: Run, judged: Verdict) -> dict[str, Any]:
  """Return what the page says about one run outside of charts."""
  return {
    "name": plain(run.name, 80),
    "workdir": plain(str(run.workdir)),
    "subject": _subject(run),
    "status": _status(run),
    "kind": judged.kind.value,
    "sentences": [
      ("Best score", judged.score),
      ("Health", judged.health),
      ("Next", judged.advice),
    ],
    "notes": [plain(note) for note in run.notes],
    "gave_up": [_shown(attempt.get("step")) for attempt in run.gave_up],
    "rollbacks": _rollbacks(run),
    "unreadable": _unreadable(run),
    "damaged_checkpoints": [plain(x) for x in run.damaged_checkpoints],
  }


def _subject(run: Run) -> str:
  """Return what is trained, in a line."""
  config = {field: _shown(value) for field, value in run.config.items()}
  name = config.get("model", "")
  parts = [models.NAMES.get(name, "a model of another name")]
  if run.number("resolution"):
    grid = config.get("base_grid", base_grid.SQUARE)
    shape = "" if grid == base_grid.SQUARE else f", base grid {grid}"
    parts.append("at {0}\u00d7{0}{1}".format(config["resolution"], shape))
  data = config.get("dataset.path") or config.get("dataset.name")
  if data:
    parts.append(f"on {data}")
  text = " ".join(parts)
  loss, penalty = config.get("loss"), config.get("penalty")
  return f"{text}: loss {loss}, penalty {penalty}" if loss else text


def _status(run: Run) -> str:
  total = run.total_kimg
  at = f"{number(run.kimg)}{f' of {number(total)}' if total else ''} kimg"
  if run.is_done:
    return f"Finished: {at}."
  written = run.stats[-1].get("unix_secs")
  if written is None or written > time.time() + 60:
    return f"At {at}."
  age = max(0.0, time.time() - written)
  return f"At {at}; the newest record is {duration(age)} old."


def _differing(runs: Sequence[Run]) -> Table:
  rows = [
    [plain(field, 80), *(_shown(run.config.get(field)) for run in runs)]
    for field in _all_fields(runs)
    if len({_shown(run.config.get(field)) for run in runs}) > 1
  ]
  return Table("Fields that differ", ["field", *_names(runs)], rows)


def _fields(runs: Sequence[Run]) -> list[tuple[str, str]]:
  """Return the fields with the same value in all runs."""
  return [
    (plain(field, 80), _shown(runs[0].config.get(field)))
    for field in _all_fields(runs)
    if len({_shown(run.config.get(field)) for run in runs}) == 1
  ]


def _all_fields(runs: Sequence[Run]) -> list[str]:
  return sorted({field for run in runs for field in run.config})[:_MOST_FIELDS]


def _names(runs: Sequence[Run]) -> list[str]:
  return [plain(run.name, 80) for run in runs]


def _shown(value: Any) -> str:
  """Return a value of a configuration as text."""
  if value is None:
    return "\u2013"
  return plain(value if isinstance(value, str) else json.dumps(value), 120)


def _evaluations(run: Run) -> Table:
  names = metric_names(run)[:8]
  rows = [
    [
      number(row["kimg"]),
      *(number(row[name]) if name in row else "\u2013" for name in names),
    ]
    for row in run.metrics[-_MOST_EVALUATIONS:]
  ]
  caption = f"Evaluations of {plain(run.name, 80)}"
  if len(run.metrics) > _MOST_EVALUATIONS:
    caption += f", the last {_MOST_EVALUATIONS} of {len(run.metrics)}"
  return Table(caption, ["kimg", *(plain(n, 80) for n in names)], rows)


def _ends(runs: Sequence[Run], prefix: str) -> list[Table]:
  """Return a table of the last tenth's median by scale, without rows: none."""
  names = sorted({name for run in runs for name in run.names(prefix)})
  rows = []
  for name in sorted(names, key=natural):
    ends = [tail(run.series(name)[1]) for run in runs]
    shown = [number(median(end)) if end else "\u2013" for end in ends]
    rows.append([figures.scale(name.removeprefix(prefix)), *shown])
  what = prefix.rstrip("/").replace("_", " ").capitalize()
  caption = f"{what}, median of the last tenth of the rows"
  return [Table(caption, ["scale", *_names(runs)], rows)] if rows else []


def _times(runs: Sequence[Run]) -> Table:
  by_run = [figures.seconds(run) for run in runs]
  names = list(dict.fromkeys(name for secs in by_run for name in secs))
  rows = [
    [plain(name, 80), *(_share(secs, name) for secs in by_run)]
    for name in names
  ]
  total = [duration(sum(secs.values())) for secs in by_run]
  rows.append(["in all", *total])
  return Table("Wall time by purpose", ["purpose", *_names(runs)], rows)


def _share(secs: Mapping[str, float], name: str) -> str:
  total = sum(secs.values())
  if name not in secs or not total:
    return "\u2013"
  return f"{duration(secs[name])} ({secs[name] / total:.0%})"


def _rollbacks(run: Run) -> Table | None:
  if not run.rollbacks:
    return None
  rows = []
  for row in run.rollbacks[-_MOST_ROWS:]:
    names = row.get("not_finite")
    where = " and ".join(map(str, names)) if isinstance(names, list) else ""
    rows.append(
      [_shown(row.get("step")), plain(where, 120), _shown(row.get("to_step"))]
    )
  return Table(
    _of_all("Rollbacks", run.rollbacks),
    ["step", "NaN or Inf in", "back to step"],
    rows,
  )


def _unreadable(run: Run) -> Table | None:
  if not run.unreadable:
    return None
  rows = [
    [_shown(row.get("image")), _shown(row.get("reason"))]
    for row in run.unreadable[-_MOST_ROWS:]
  ]
  caption = _of_all("Damaged images of the prepared set", run.unreadable)
  return Table(caption, ["image", "reason"], rows)


def _of_all(what: str, rows: Sequence) -> str:
  if len(rows) <= _MOST_ROWS:
    return f"{what}: {len(rows)}"
  return f"{what}: {len(rows)}, the last {_MOST_ROWS} of them"


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[io.BufferedIOBase]:
  """Yield a new file, which takes the path's place after the block."""
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    if path.is_dir():
      raise IsADirectoryError(0, "it is a folder")
    with temporary.open("wb") as file:
      yield file
    temporary.replace(path)
  except OSError as error:
    raise ValueError(
      f"{path} cannot be written: {error.strerror or error}; close it where it "
      "is open, or give another file with --output"
    ) from error
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
