"""Measure how costs grow with the work; plot them in docs/performance.md.

  python -m benchmarks.growth

Each point is a process of its own, on an idle machine. Finished points are
stored in docs/growth.jsonl and skipped next time, so the command can be stopped
at any time. Delete a line there to measure its point again. The prepared sets
and checkpoints are left in runs/growth.
"""

import argparse
import datetime
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks import growth_points, section
from benchmarks.section import ROOT
from benchmarks.timed_step import time_step
from msggan_jax.models import multi_scale, pyramid
from msggan_jax.runtime import jsonl, plots

POINTS = ROOT / "docs/growth.jsonl"
PLOT = ROOT / "docs/growth.svg"
PAGE = ROOT / "docs/performance.md"
DEMO = ROOT / "configs/demo.py"
# Widths that halve from 128x128 up, as the paper's do.
FIELDS = {"base_channels": 4096, "batch_size": 4}


class Measure(NamedTuple):
  """A measured cost and its allowed growth."""

  field: str  # of a point's row
  label: str  # in tables and plots, with the unit
  unit: float  # the row's value is divided by it
  # The cost may grow with it. "none": constant; "x": the series' number;
  # "features": pixels times channels, summed over the levels.
  cause: str


class Series(NamedTuple):
  """Points along one number."""

  label: str  # of the number, in tables and plots
  values: tuple[int, ...]  # ascending
  measures: tuple[Measure, ...]


_MEMORY = Measure("peak_memory_bytes", "memory, GiB", 2**30, "x")


def _of_step(secs_cause, memory_cause):
  secs = Measure("step_secs", "step, s", 1, secs_cause)
  return secs, _MEMORY._replace(cause=memory_cause)


SERIES = {
  "resolution": Series(
    "resolution", (32, 64, 128, 256, 512), _of_step("features", "features")
  ),
  "batch_size": Series("batch", (4, 8, 16, 32, 64), _of_step("x", "x")),
  # The same batch of 64 on more devices of the same cores.
  "devices": Series("devices", (1, 2, 4, 8), _of_step("none", "x")),
  "num_classes": Series(
    "classes", (2, 10, 100, 1000, 10_000), _of_step("none", "x")
  ),
  "preparing": Series(
    "images prepared",
    (100, 1000, 10_000, 100_000, 1_000_000),
    (Measure("secs_an_image", "an image, ms", 1e-3, "none"), _MEMORY),
  ),
  "duplicates": Series(
    "images compared",
    (1000, 10_000, 100_000),
    (
      *(
        Measure(f"secs_{kind}", f"{kind}, an image, ms", 1e-3, "none")
        for kind in ("photos", "white", "black", "equal", "digits")
      ),
      _MEMORY,
    ),
  ),
  "records": Series(
    "images in the set",
    (100, 1000, 10_000, 100_000, 1_000_000),
    (
      Measure("secs_to_first_batch", "to the first batch, s", 1, "none"),
      Measure("secs_an_image", "an image, ms", 1e-3, "none"),
      _MEMORY,
    ),
  ),
  "snapshots": Series(
    "checkpoints kept",
    (1, 3, 10, 30, 100),
    (
      Measure("save_secs", "to save one, s", 1, "none"),
      Measure("load_secs", "to load one, s", 1, "none"),
      Measure("bytes_kept", "on disk, MiB", 2**20, "x"),
    ),
  ),
}


def measure(name: str, value: int, folder: Path) -> dict[str, float]:
  """Measure a point in a process of its own."""
  if name in growth_points.POINTS:
    command = [growth_points.__file__, name, str(value), str(folder)]
    result = subprocess.run(
      [sys.executable, *command],
      check=True,
      stdout=subprocess.PIPE,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    return json.loads(result.stdout)
  if name == "devices":
    fields, devices = FIELDS | {"batch_size": 64}, value
  else:
    fields, devices = FIELDS | {name: value}, 1
  return time_step("configs/demo.py", fields, steps=8, devices=devices)


def allowed(measure: Measure, first: dict, row: dict) -> float:
  """Return the allowed ratio of a cost to that of the first point."""
  if measure.cause == "features":
    return features(row["value"]) / features(first["value"])
  return row["value"] / first["value"] if measure.cause == "x" else 1.0


def features(resolution: int) -> int:
  """Return pixels times channels, summed over the levels."""
  config = runpy.run_path(str(DEMO))["get_config"]()
  config.update(FIELDS)
  return sum(
    r**2 * multi_scale.num_channels(config, r)
    for r in pyramid.resolutions_up_to(resolution)
  )


def draw(rows: list[dict]) -> None:
  """Draw the costs of each series, with dashed lines for allowed growth."""
  columns = 2
  lines = -(-len(SERIES) // columns)
  figure = Figure(figsize=(9, 2.9 * lines), layout="tight")
  for index, (name, series) in enumerate(SERIES.items()):
    axes = figure.add_subplot(lines, columns, index + 1)
    own = points_of(name, rows)
    for color, measure in zip(plots.COLORS, series.measures, strict=False):
      xs = [row["value"] for row in own]
      ys = [row[measure.field] / measure.unit for row in own]
      limits = [ys[0] * allowed(measure, own[0], row) for row in own]
      axes.plot(xs, ys, "o-", color=color, label=measure.label)
      axes.plot(xs, limits, "--", color=color, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks(series.values, [f"{value:,}" for value in series.values])
    axes.set_xlabel(series.label)
    axes.legend(fontsize=8)
  section.save(figure, PLOT)


def points_of(name: str, rows: list[dict]) -> list[dict]:
  """Return the rows of a series, by value."""
  own = [row for row in rows if row["series"] == name]
  return sorted(own, key=lambda row: row["value"])


def table(rows: list[dict]) -> str:
  """Return a line for each cost: its first and last value."""
  head = ("", "from", "to", "cost", "first", "last", "grows by")
  head += ("cause", "cause grows by")
  lines = []
  for name, series in SERIES.items():
    first, *_, last = points_of(name, rows)
    for measure in series.measures:
      begin, end = (row[measure.field] / measure.unit for row in (first, last))
      cause = series.label if measure.cause == "x" else measure.cause
      cells = (
        *(series.label, f"{first['value']:,}", f"{last['value']:,}"),
        *(measure.label, f"{begin:.3g}", f"{end:.3g}", f"{end / begin:.3g}"),
        *(cause, f"{allowed(measure, first, last):.3g}"),
      )
      lines.append(cells)
  return f"{section.table(head, lines)}\n![Cost as work grows]({PLOT.name})\n"


def main() -> None:
  """Measure missing points; then draw and write."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--folder", type=Path, default=ROOT / "runs/growth")
  parser.add_argument("--series", choices=SERIES, nargs="*", default=[*SERIES])
  args = parser.parse_args()
  rows = jsonl.read(POINTS)
  done = {(row["series"], row["value"]) for row in rows}
  for name in args.series:
    for value in SERIES[name].values:
      if (name, value) in done:
        continue
      row = {"series": name, "value": value}
      row |= measure(name, value, args.folder)
      row["date"] = datetime.date.today().isoformat()
      jsonl.append(POINTS, row)
      rows.append(row)
      print(json.dumps(row), flush=True)
  if all(len(points_of(name, rows)) > 1 for name in SERIES):
    draw(rows)
    section.replace(PAGE, "growth", table(rows))


if __name__ == "__main__":
  main()
