"""One HTML file about runs, with everything in it."""

import base64
import dataclasses
import datetime
import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from msggan_jax import models
from msggan_jax.metrics import agreement
from msggan_jax.reporting import pictures, verdict
from msggan_jax.reporting.pictures import Plot
from msggan_jax.reporting.records import Run, natural, number, plain
from msggan_jax.runtime import files
from msggan_jax.runtime.clock import duration
from msggan_jax.runtime.plots import Line

NAME = "report.html"

_HERE = Path(__file__).parent
_MOST_FIELDS = 300  # of a configuration
_MOST_PLOTS = 24  # of metrics, and of numbers that no section knows
_MISSING = "\u2013"
_SUBJECT = ("resolution", "base_grid", "loss", "penalty")

_UNWEIGHTED = "Mean over the batch at each scale, not weighted."
# Numbers that share a plot, or the prefix of scales; others have one each.
_CAPTIONS = {
  ("d_loss", "g_loss"): "Losses of D and G.",
  ("real_logits", "fake_logits"): "D's mean logits of reals and of fakes.",
  ("d_grad_norm", "g_grad_norm"): "Norms of D's and of G's gradients.",
  "gradient_penalty/": _UNWEIGHTED,
  "r1_penalty/": _UNWEIGHTED,
  "r2_penalty/": _UNWEIGHTED,
  "stability/": "Mean squared change of 36 fixed latents' images between "
  "snapshots (paper, Fig. 6); lower is calmer.",
  ("diversity",): "How much an image of 36 fixed latents differs from its "
  "nearest other one, divided by the same for real images: 1 is as diverse as "
  "the data, 0 is one image for all latents, and noise is above 1.",
  ("images_per_sec",): "Without evaluations and samples.",
  ("memory_bytes",): "Most memory in use so far: of the accelerator, or of the "
  "process on a CPU.",
  f"{agreement.NAME}/": "Whether all scales show one picture: each against the "
  "largest one averaged over areas, the correlation of the deviations from the "
  "mean image; 1 is the same picture.",
  f"{agreement.NAME}_rmse/": "RMSE of the same, in [-1, 1].",
}
# Endings of metrics that say how sure another one is.
_OF_OTHERS = ("_error", "_std", "_floor")
_NOT_PLOTTED = ("step", "kimg", "unix_secs", "secs")  # or what begins so

_MARK = b"script-src 'sha256-"  # in the first bytes of every page

# A caption, heads, and rows whose first cells are headings.
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def write(runs: Sequence[Run], path: Path) -> int:
  """Write the page in one move, and return its size in bytes."""
  page = render(runs)
  if path.is_file():
    with path.open("rb") as file:
      if _MARK not in file.read(1024):
        raise ValueError(
          f"{path} exists and is no report; give another file with --output"
        )
  files.write(path.absolute(), page)
  return len(page)


def render(runs: Sequence[Run]) -> bytes:
  """Return the page."""
  strips: dict[str, list] = {}
  for run in runs:
    for scale, frames in pictures.strips(run, len(runs)).items():
      title = f"{scale}\u00d7{scale}" if scale else "All scales"
      strips.setdefault(title, []).append((run, frames))
  stills = [
    (title, run, picture)
    for run in runs
    for title, path in pictures.stills(run)
    if (picture := pictures.encode(path))
  ]
  script = (_HERE / "page.js").read_text()
  digest = hashlib.sha256(script.encode()).digest()
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    finalize=lambda x: plain(x, 2000) if type(x) is str else x,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  text = environment.get_template("page.html").render(
    title=", ".join(run.name for run in runs),
    written=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M UTC}",
    runs=runs,
    subject=_subject,
    judge=verdict.judge,
    best_score=verdict.best_score,
    newest={run.name: f[-1][1] for run, f in strips.get("All scales", ())},
    sections={
      "Scores": _plots(runs, _score_names(runs)),
      "Records of training": _plots(runs, _record_names(runs)),
    },
    times=_times(runs),
    differing=_fields(runs, same=False),
    fields=_fields(runs, same=True),
    strips=strips,
    stills=stills,
    number=number,
    css=Markup((_HERE / "page.css").read_text()),
    script=Markup(script),
    script_hash=base64.b64encode(digest).decode(),
  )
  return text.encode("utf-8", "replace")


def _record_names(runs: Sequence[Run]) -> list[str]:
  names = {name for run in runs for name in run.names()}
  plotted = [name for name in names if not name.startswith(_NOT_PLOTTED)]
  return sorted(plotted, key=natural)


def _score_names(runs: Sequence[Run]) -> list[str]:
  names = dict.fromkeys(name for run in runs for name in run.metric_names)
  names.pop(agreement.NAME, None)  # the smallest of the scales'
  of_others = f"({'|'.join(_OF_OTHERS)})(/|$)"  # "_std/cat" is of a class
  return [name for name in names if not re.search(of_others, name)]


def _plots(runs: Sequence[Run], names: Sequence[str]) -> list[Plot]:
  """Plot numbers; those of a caption share a plot, scales one for each run."""
  groups = [
    (wanted, [name for name in names if name.startswith(wanted)], caption)
    for wanted, caption in _CAPTIONS.items()
  ]
  known = {name for _, group, _ in groups for name in group}
  others = [name for name in names if name not in known]
  left = []
  if len(others) > _MOST_PLOTS:
    newest = sorted(others, key=lambda name: -_last_kimg(runs, name))
    left = newest[_MOST_PLOTS:]
  others = [((), [name], "") for name in others if name not in left]
  plots, several = [], len(runs) > 1
  for wanted, group, caption in groups + others:
    if not group:
      continue
    for scores in (run.scores for run in runs if run.scores):
      if [scores.protocol.main_value] == group:
        better = "Higher" if scores.protocol.higher_is_better else "Lower"
        caption = f"{better} is better; the star is the best."
    caption = f"{caption} {_how_sure(runs, group[0])}".strip()
    has_scales = isinstance(wanted, str)
    log = has_scales and not wanted.startswith(agreement.NAME)
    if has_scales:  # a plot for each run
      caption += f" By scale{'; a logarithmic axis' if log else ''}."
      title = wanted[:-1].replace("_", " ").capitalize()
      drawn = [
        (
          f"{title}: {run.name}" if several else title,
          [_line(run, name, name.rpartition("/")[2]) for name in group],
        )
        for run in runs
      ]
    elif several:
      drawn = [
        (name, [_line(run, name, run.name) for run in runs]) for name in group
      ]
    else:
      lines = [_line(runs[0], name, name) for name in group]
      drawn = [(" and ".join(group), lines)]
    plots += [pictures.plot(title, caption, x, log=log) for title, x in drawn]
  plots = [plot for plot in plots if plot]
  if left:
    said = f"{plots[-1].caption} {len(left)} numbers, the oldest, have no plot."
    plots[-1] = dataclasses.replace(plots[-1], caption=said.strip())
  return plots


def _last_kimg(runs: Sequence[Run], name: str) -> float:
  return max(kimg for run in runs for kimg, _ in run.series(name) or [(0, 0)])


def _line(run: Run, name: str, label: str) -> Line:
  scores = run.scores
  is_score = scores and scores.protocol.main_value == name
  return Line(label, run.series(name), scores.best_kimg if is_score else None)


def _how_sure(runs: Sequence[Run], name: str) -> str:
  """Return a sentence with the last error, spread or floor of a metric."""
  last = []
  for run in runs:
    of = f" of {run.name}" if len(runs) > 1 else ""
    for ending in _OF_OTHERS:
      if points := run.series(name + ending):
        last.append(f"{ending[1:]}{of} {number(points[-1][1])}")
  return f"Last {', '.join(last)}." if last else ""


def _times(runs: Sequence[Run]) -> Table:
  names = {name for run in runs for name in run.names("secs/")}
  secs = {x: [run.stats[-1].get(x, 0.0) for run in runs] for x in names}
  rows = [
    [name.removeprefix("secs/"), *map(duration, secs[name])]
    for name in sorted(names, key=lambda name: (-max(secs[name]), name))
  ]
  caption = "Wall time by purpose, restarts included; each second counts once"
  return caption, ["purpose", *(run.name for run in runs)], rows


def _fields(runs: Sequence[Run], *, same: bool) -> Table:
  """Return the fields with the same value in all runs, or the other ones."""
  names = sorted({field for run in runs for field in run.config})
  rows = []
  for name in names[:_MOST_FIELDS]:
    values = [_shown(run.config.get(name)) for run in runs]
    if (len({*values}) == 1) == same:
      rows.append([name, *(values[:1] if same else values)])
  heads = ["field", *(run.name for run in runs)]
  return "Fields that differ", heads, rows


def _shown(value: Any) -> str:
  if isinstance(value, float):
    return number(value)
  if value in (None, ""):
    return _MISSING
  return plain(value if isinstance(value, str) else json.dumps(value), 120)


def _subject(run: Run) -> str:
  """Return what is trained and how far it is, in a line."""
  config = {field: _shown(value) for field, value in run.config.items()}
  name = models.name_of(run.config)
  data = run.config.get("dataset.path") or run.config.get("dataset.name")
  shown = {field: config.get(field, _MISSING) for field in _SUBJECT}
  parts = ", ".join(f"{field} {value}" for field, value in shown.items())
  age = time.time() - run.stats[-1].get("unix_secs", time.time())
  newest = f"; the newest record is {duration(max(0.0, age))} old"
  return (
    f"{name} on {_shown(data)}: {parts}; "
    f"{number(run.kimg)} of {number(run.total_kimg)} kimg"
    f"{'' if run.is_done else newest}."
  )
