"""One HTML file about runs, with everything in it."""

import base64
import datetime
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from msggan_jax import models
from msggan_jax.metrics import agreement
from msggan_jax.reporting import pictures, verdict
from msggan_jax.reporting.pictures import Plot
from msggan_jax.reporting.records import Points, Run, natural, number, plain
from msggan_jax.reporting.verdict import Case
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
# Records that share a plot, or a prefix of theirs; others have one each.
_CAPTIONS = {
  ("d_loss", "g_loss"): "Losses of D and G.",
  ("real_logits", "fake_logits"): "D's mean logits of reals and of fakes.",
  ("d_grad_norm", "g_grad_norm"): "Norms of D's and of G's gradients.",
  "gradient_penalty/": _UNWEIGHTED,
  "r1_penalty/": _UNWEIGHTED,
  "r2_penalty/": _UNWEIGHTED,
  "stability/": "Mean squared change of 36 fixed latents' images between "
  "snapshots (paper, Fig. 6); lower is calmer.",
  ("diversity",): "How much an image of the same latents differs from its "
  "nearest other one, divided by the same for real images: 1 is as diverse as "
  "the data, 0 is one image for all latents, and noise is above 1.",
  ("images_per_sec",): "Without evaluations and samples.",
  ("memory_bytes",): "Most memory in use so far: of the accelerator, or of the "
  "process on a CPU.",
}
# The same of metrics.
_AGREEMENT = {
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
  cases = [Case(run, verdict.find_scores(run)) for run in runs]
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
    subjects=[_subject(run) for run in runs],
    findings=[verdict.judge(case) for case in cases],
    best=[verdict.best_score(case) for case in cases],
    newest={run.name: f[-1][1] for run, f in strips.get("All scales", ())},
    sections={"Scores": _scores(cases), "Records of training": _records(cases)},
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


def _records(cases: Sequence[Case]) -> list[Plot]:
  names = {name for case in cases for name in case.run.names()}
  plotted = [n for n in names if not n.startswith(_NOT_PLOTTED)]
  plots = []
  for group, caption in _groups(sorted(plotted, key=natural), _CAPTIONS):
    plots += _plot(cases, group, caption, Run.series)
  return plots


def _scores(cases: Sequence[Case]) -> list[Plot]:
  names = dict.fromkeys(n for case in cases for n in case.run.metric_names)
  names.pop(agreement.NAME, None)  # the smallest of the scales'
  plotted = [
    name
    for name in names
    if not name.endswith(_OF_OTHERS)  # "_std/cat" is of a class
    and not name.partition("/")[0].endswith(_OF_OTHERS)
  ]
  plots = []
  for group, caption in _groups(plotted, _AGREEMENT):
    for scores in (case.scores for case in cases if case.scores):
      if [scores.protocol.main_value] == group:
        better = "Higher" if scores.protocol.higher_is_better else "Lower"
        caption = f"{better} is better; the star is the best."
    caption = f"{caption} {_how_sure(cases, group[0])}".strip()
    scales = group[0].startswith(tuple(_AGREEMENT))
    plots += _plot(
      cases, group, caption, Run.scores, log=False, by_scale=scales
    )
  return plots


def _how_sure(cases: Sequence[Case], name: str) -> str:
  """Return a sentence with the last error, spread or floor of a metric."""
  last = []
  for case in cases:
    of = f" of {case.run.name}" if len(cases) > 1 else ""
    for ending in _OF_OTHERS:
      if points := case.run.scores(name + ending):
        last.append(f"{ending[1:]}{of} {number(points[-1][1])}")
  return f"Last {', '.join(last)}." if last else ""


def _groups(
  names: Sequence[str], captions: Mapping[Any, str]
) -> Iterator[tuple[list[str], str]]:
  """Yield the names that share a plot, and its caption; then the others."""
  for wanted, caption in captions.items():
    if group := [name for name in names if name.startswith(wanted)]:
      names = [name for name in names if name not in group]
      yield group, caption
  for name in names[:_MOST_PLOTS]:
    yield [name], ""


def _plot(
  cases: Sequence[Case],
  names: Sequence[str],
  caption: str,
  points: Callable[[Run, str], Points],
  *,
  log: bool = True,
  by_scale: bool = True,
) -> list[Plot]:
  """Plot numbers of one run, each of several runs, or each run's scales.

  Without `by_scale` a name with a scale is one as any other.
  """

  def line(case: Case, name: str, label: str) -> Line:
    scores = case.scores
    is_score = scores and scores.protocol.main_value == name
    star = scores.best_kimg if is_score else None
    return Line(label, points(case.run, name), star)

  what, has_scales, _ = names[0].rpartition("/")
  if has_scales and by_scale:
    title = what.replace("_", " ").capitalize()
    caption = f"{caption} By scale{'; a logarithmic axis' if log else ''}."
    of_several = len(cases) > 1
    plots = [
      pictures.plot(
        f"{title}: {case.run.name}" if of_several else title,
        caption,
        [line(case, name, name.rpartition("/")[2]) for name in names],
        log=log,
      )
      for case in cases
    ]
  elif len(cases) == 1:
    lines = [line(cases[0], name, name) for name in names]
    plots = [pictures.plot(" and ".join(names), caption, lines)]
  else:
    plots = [
      pictures.plot(name, caption, [line(x, name, x.run.name) for x in cases])
      for name in names
    ]
  return [plot for plot in plots if plot]


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
