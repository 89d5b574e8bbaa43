"""Plots of lines over training, for color-blind readers, too."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe and Ito's colors, then two more.
COLORS = (
  "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #000000 #999933 #882255"
).split()

_MARKERS = "os^vD"
_DASHES = ("-", "--", "-.", ":")
_STYLE = {
  "svg.fonttype": "none",  # text stays text
  "svg.hashsalt": "msggan_jax",  # the same bytes for the same records
  "text.parse_math": False,  # "$" in somebody's names is a dollar
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "grid.color": "#e4e4e4",
  "legend.frameon": False,
  "legend.fontsize": 9,
}
_SIZE = (4.4, 2.8)  # inches: text of 10 points stays legible on a phone
_MOST_POINTS = 200  # of a line


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a plot, (kimg, value), perhaps with a star at one kimg."""

  label: str
  points: Sequence[tuple[float, float]]
  star: float | None = None

  def on_log_axis(self) -> "Line":
    """Return the line without the points that a logarithmic axis lacks."""
    shown = [(x, y) for x, y in self.points if 0 < y < math.inf]
    return dataclasses.replace(self, points=shown)


def draw(
  target: Any,
  lines: Sequence[Line],
  *,
  log: bool = False,
  ylabel: str = "",
  **options: Any,
) -> bool:
  """Write a plot of lines that have points to a path or a file.

  Returns whether rare values are cut off. The options are matplotlib's.
  """
  with matplotlib.rc_context(_STYLE):
    figure = Figure(_SIZE)
    axes = figure.add_subplot(xlabel="thousand images (kimg)", ylabel=ylabel)
    for place, line in enumerate(lines):
      _draw_line(axes, line, place)
    values = np.concatenate([[y for _, y in line.points] for line in lines])
    limits = None if log else _limits(values)
    if log:
      _scale_by_log(axes, values)
    else:
      axes.yaxis.set_major_formatter("{x:.6g}")  # no factor above the axis
    if limits:
      axes.set_ylim(*limits)
    rows = -(-len(lines) // 3) if len(lines) > 1 else 0
    if rows:
      figure.legend(loc="upper center", ncols=3)
    # Constrained layout would take twice the time.
    top = 0.96 - 0.08 * rows
    figure.subplots_adjust(left=0.16, right=0.98, bottom=0.17, top=top)
    figure.savefig(target, **options)
  return bool(limits)


def panels(
  x: np.ndarray, curves: dict[str, np.ndarray], xlabel: str, ylabel: str
) -> np.ndarray:
  """Draw curves, (channels, points), of each channel in a panel of its own.

  The axis of the values is logarithmic; 0 is below it. uint8, (H, W, 3), at
  most 512 pixels high for eight channels.
  """
  channels = len(next(iter(curves.values())))
  columns = min(channels, 2)
  rows = -(-channels // columns)
  height = min(2 * rows, 5.12)
  with matplotlib.rc_context(_STYLE | {"font.size": 8}):
    figure = Figure((2.56 * columns, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for place, axes in enumerate(grid.flat):
      if place >= channels:
        axes.set_axis_off()
        continue
      for i, (name, values) in enumerate(curves.items()):
        axes.plot(x, values[place], _DASHES[i], color=COLORS[i], label=name)
      shown = np.concatenate([values[place] for values in curves.values()])
      shown = shown[shown > 0]  # nor NaN
      shown = shown if len(shown) else np.ones(1)
      axes.set_ylim(shown.min() / 2, shown.max() * 2)
      _scale_by_log(axes, shown)
      if channels > 1:
        axes.set_title(f"channel {place + 1}", fontsize=8)
    grid.flat[0].legend(fontsize=8)
    figure.supxlabel(xlabel, fontsize=8)
    figure.supylabel(ylabel, fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_line(axes: Axes, line: Line, place: int) -> None:
  points, color = line.points, COLORS[place % len(COLORS)]
  if len(points) > _MOST_POINTS and line.star is None:
    parts = np.array_split(np.array(points), _MOST_POINTS)
    points = [tuple(part.mean(axis=0)) for part in parts]
  every = max(1, len(points) // 7)
  axes.plot(
    *zip(*points, strict=True),
    label=line.label,
    color=color,
    linewidth=1.6,
    linestyle=_DASHES[place // 3 % len(_DASHES)],
    marker=_MARKERS[place % len(_MARKERS)],
    markersize=4.5,
    markevery=(place % every, every),
  )
  y = dict(points).get(line.star)
  if y is not None:
    axes.plot(line.star, y, "*", color=color, markersize=14, zorder=3)


def _limits(values: np.ndarray) -> tuple[float, float] | None:
  """Return the limits of most values if single ones lie far outside."""
  low, high = np.percentile(values, [2, 98])
  spread = high - low
  if len(values) < 50 or spread <= 0 or np.ptp(values) < 4 * spread:
    return None
  return float(low - 0.3 * spread), float(high + 0.3 * spread)


def _scale_by_log(axes: Axes, values: np.ndarray) -> None:
  """Make the values' axis logarithmic, with plain numbers at its ticks."""
  axes.set_yscale("log")
  few_powers = max(values) < 30 * min(values)  # of ten, on the axis
  axes.yaxis.set_major_formatter("{x:.4g}")
  axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
  axes.yaxis.set_minor_formatter("{x:.4g}" if few_powers else NullFormatter())
