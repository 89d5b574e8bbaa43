"""The charts of a report, from the records of its runs."""

import functools
from collections.abc import Sequence

from msggan_jax.metrics.protocols import Protocol
from msggan_jax.reporting import charts, scores
from msggan_jax.reporting.charts import Chart, Line
from msggan_jax.reporting.records import Run, metric_names, natural
from msggan_jax.runtime.clock import duration

_GIB = 2**30
_SECS = "secs/"
_MANY_SECS = 4 * 3600  # more are shown in hours
PENALTIES = ("gradient_penalty/", "r1_penalty/", "r2_penalty/")
STABILITY = "stability/"
_MOST_OTHERS = 24  # charts of numbers that no section knows

_LOSSES = (
  (("d_loss", "g_loss"), "loss", "Losses of D and G."),
  (
    ("real_logits", "fake_logits"),
    "logit",
    "D's mean logits of real and of generated images.",
  ),
  (
    ("d_grad_norm", "g_grad_norm"),
    "norm",
    "Norms of D's and of G's gradient.",
  ),
)
_KNOWN = {
  *(name for names, _, _ in _LOSSES for name in names),
  *("step", "kimg", "unix_secs", "images_per_sec", "secs_per_kimg"),
  "memory_bytes",
}
_KNOWN_PREFIXES = (*PENALTIES, STABILITY, _SECS)


def losses(runs: Sequence[Run]) -> list[Chart]:
  """Return charts of losses, logits and gradient norms."""
  made = []
  for names, unit, caption in _LOSSES:
    title = " and ".join(names)
    made += _quantities(runs, names, title=title, unit=unit, caption=caption)
  return made


def penalties(runs: Sequence[Run]) -> list[Chart]:
  """Return charts of the penalties per scale."""
  made = []
  for prefix in PENALTIES:
    title = prefix.rstrip("/").replace("_", " ").capitalize()
    caption = (
      f"{title} of each scale, averaged over the batch and not weighted; a "
      "logarithmic axis."
    )
    made += _scales(runs, prefix, title, "penalty", caption)
  return made


def stability(runs: Sequence[Run]) -> list[Chart]:
  """Return charts of the stability per scale (paper, Fig. 6)."""
  caption = (
    "Mean squared change of 36 fixed latents' images between snapshots, by "
    "scale (paper, Fig. 6); a logarithmic axis. Lower is calmer."
  )
  return _scales(runs, STABILITY, "Stability", "change", caption)


def metrics(
  runs: Sequence[Run], best: Sequence[scores.Scores | None]
) -> list[Chart]:
  """Return a chart for each metric, with a star at the best evaluation."""
  names = dict.fromkeys(name for run in runs for name in metric_names(run))
  made = []
  for name in list(names)[:_MOST_OTHERS]:
    lines, protocol = [], None
    for run, of_run in zip(runs, best, strict=True):
      rows = {
        r["kimg"]: r for r in run.metrics if isinstance(r.get(name), float)
      }
      kimg = sorted(rows)
      starred = None
      if of_run and of_run.protocol.main_value == name:
        starred = of_run.kimg[of_run.best]
      values = [rows[x][name] for x in kimg]
      lines.append(Line(run.name, kimg, values, starred))
      protocol = protocol or _protocol_of(run, name)
    star = " A star marks the best." if any(x.starred for x in lines) else ""
    better = "" if protocol is None else f" {_direction(protocol, name)}"
    caption = f"{name} over training.{better}{star}"
    made.append(charts.lines(name, caption, lines, unit="score"))
  return [chart for chart in made if chart]


def diversity(
  runs: Sequence[Run], of_runs: Sequence[Sequence[tuple[float, float]]]
) -> list[Chart]:
  """Return a chart of the sample grids' diversity."""
  lines = [
    Line(run.name, [x for x, _ in points], [y for _, y in points])
    for run, points in zip(runs, of_runs, strict=True)
  ]
  chart = charts.lines(
    "Diversity of the sample grid",
    "How much an image differs from its nearest other one in the grid, divided "
    "by the same for real images: 1 is as diverse as the data, 0 is one image "
    "for all latents, and noise is above 1.",
    lines,
    unit="of the reals'",
  )
  return [chart] if chart else []


def speed_and_memory(runs: Sequence[Run]) -> list[Chart]:
  """Return charts of images per second and of memory."""
  made = _quantities(
    runs,
    ["images_per_sec"],
    title="Speed",
    unit="images/s",
    caption="Images per second of training, without evaluations and samples.",
  )
  made += _quantities(
    runs,
    ["memory_bytes"],
    title="Memory",
    unit="GiB",
    caption="Most memory in use so far: of the accelerator, or of the process "
    "on a CPU.",
    divisor=_GIB,
  )
  return made


def times(runs: Sequence[Run]) -> list[Chart]:
  """Return a chart of the wall time by purpose."""
  rows = [seconds(run) for run in runs]
  names = {name: max(r.get(name, 0) for r in rows) for r in rows for name in r}
  if not names:
    return []
  ordered = sorted(names, key=lambda name: -names[name])
  in_hours = names[ordered[0]] > _MANY_SECS
  unit, size = ("hours", 3600) if in_hours else ("minutes", 60)
  chart = charts.bars(
    "Wall time",
    "Wall time by purpose since the first start, restarts included; each "
    "second counts once.",
    [(name, [row.get(name, 0.0) / size for row in rows]) for name in ordered],
    [run.name for run in runs],
    unit=unit,
    show=lambda value: duration(size * value),
  )
  return [chart]


def seconds(run: Run) -> dict[str, float]:
  """Return a run's seconds by purpose, the largest first."""
  found = {
    name.removeprefix(_SECS): max(0.0, value)
    for name, value in run.stats[-1].items()
    if name.startswith(_SECS)
  }
  return dict(sorted(found.items(), key=lambda item: -item[1]))


def others(runs: Sequence[Run]) -> list[Chart]:
  """Return charts of the recorded numbers that no other section shows."""
  names = {
    name
    for run in runs
    for name in run.names()
    if name not in _KNOWN and not name.startswith(_KNOWN_PREFIXES)
  }
  made = []
  for name in sorted(names, key=natural)[:_MOST_OTHERS]:
    caption = f"{name}, as the run records it."
    made += _quantities(runs, [name], title=name, unit="", caption=caption)
  return made


def _quantities(
  runs: Sequence[Run],
  names: Sequence[str],
  *,
  title: str,
  unit: str,
  caption: str,
  divisor: float = 1,
) -> list[Chart]:
  """Chart a run's quantities together, or several runs' one by one."""

  def line(run: Run, name: str, label: str) -> Line:
    kimg, values = run.series(name)
    return Line(label, kimg, [value / divisor for value in values])

  draw = functools.partial(charts.lines, unit=unit)
  if len(runs) == 1:
    data = [line(runs[0], name, name) for name in names]
    made = [draw(title, caption, data, events=_rollbacks(runs[0]))]
  else:
    made = [
      draw(
        title if len(names) == 1 else name,
        caption if len(names) == 1 else f"{name}: {caption}",
        [line(run, name, run.name) for run in runs],
      )
      for name in names
    ]
  return [chart for chart in made if chart]


def _scales(
  runs: Sequence[Run], prefix: str, title: str, unit: str, caption: str
) -> list[Chart]:
  """Chart the scales of each run on one pair of axes."""
  made = []
  for run in runs:
    of_run = title if len(runs) == 1 else f"{title}: {run.name}"
    data = [
      Line(scale(name.removeprefix(prefix)), *run.series(name))
      for name in run.names(prefix)
    ]
    events = _rollbacks(run)
    made.append(
      charts.lines(of_run, caption, data, unit=unit, log=True, events=events)
    )
  return [chart for chart in made if chart]


def scale(resolution: str) -> str:
  """Return the name of a scale."""
  return f"{resolution}\u00d7{resolution}"


def _rollbacks(run: Run) -> list[float]:
  """Return the kimg of a run's rollbacks."""
  batch = run.number("batch_size") or 0
  steps = [row.get("step") for row in run.rollbacks]
  return [x * batch / 1000 for x in steps if type(x) is int and 0 < x < 2**53]


def _protocol_of(run: Run, name: str) -> Protocol | None:
  """Return the protocol of a metric, or None."""
  for row in run.metrics:
    if name in row:
      return scores.parse(name.removesuffix("_precision"), row)
  return None


def _direction(protocol: Protocol, name: str) -> str:
  if name != protocol.main_value:
    return ""
  return (
    "Higher is better." if protocol.higher_is_better else "Lower is better."
  )
