"""Charts as SVG inside of a page: small, readable on a phone and in print."""

import dataclasses
import hashlib
import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
  FuncFormatter,
  LogLocator,
  MaxNLocator,
  NullFormatter,
)

from msggan_jax.reporting.records import number, plain
from msggan_jax.runtime import palette

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SIZE = (4.4, 2.5)  # inches: text of 10 points stays legible on a phone
_MOST_POINTS = 200  # of a line
_MOST_LINES = 12  # of a chart
_STYLE = {
  "svg.fonttype": "none",  # text stays text
  "svg.hashsalt": "msggan_jax",  # the same bytes for the same records
  "text.parse_math": False,  # "$" in somebody's names is a dollar
  "font.size": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#777777",
  "axes.labelcolor": "#333333",
  "xtick.color": "#555555",
  "ytick.color": "#555555",
  "legend.frameon": False,
  "legend.fontsize": 9,
  "path.simplify_threshold": 0.3,
}
_DASHES = ("-", "--", "-.", ":")


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of a chart.

  Attributes:
    label: For the legend.
    x: Thousands of images.
    y: The values.
    starred: A point of the line to mark: its x.
  """

  label: str
  x: Sequence[float]
  y: Sequence[float]
  starred: float | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
  """A chart with its words.

  Attributes:
    title: A heading.
    svg: The picture, with the title and the description in it.
    caption: A sentence for everybody.
  """

  title: str
  svg: Markup
  caption: str


def lines(
  title: str,
  caption: str,
  data: Sequence[Line],
  *,
  unit: str,
  log: bool = False,
  events: Sequence[float] = (),
) -> Chart | None:
  """Draw lines over the thousands of images shown.

  Args:
    title: Of the chart.
    caption: Says what it shows.
    data: The lines; those after the twelfth are not drawn.
    unit: Of the values.
    log: Whether the axis is logarithmic; values of 0 or less are left out.
    events: Where to draw vertical lines: rollbacks.

  Returns:
    The chart; None without points.
  """
  drawn = [_thinned(_shown(line, log)) for line in data if len(line.x)]
  drawn = [
    dataclasses.replace(line, label=plain(line.label))
    for line in drawn
    if len(line.x)
  ][:_MOST_LINES]
  if not drawn:
    return None
  limits = None if log else _limits(drawn)

  def draw(axes: Axes) -> None:
    for place, line in enumerate(drawn):
      _draw_line(axes, line, place)
    for kimg in events:
      axes.axvline(kimg, color="#999999", linewidth=1, linestyle=(0, (1, 2)))
    if log:
      _scale_by_log(axes, drawn)
    elif limits:
      axes.set_ylim(*limits)
    axes.set_xlabel("thousand images (kimg)")
    axes.set_ylabel(unit)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if len(drawn) > 1:
      _legend(axes, len(drawn))

  title, said = plain(title), plain(caption)
  if limits:
    said += " Rare values outside of the axis are cut off."
  if len(data) > _MOST_LINES:
    said += f" The first {_MOST_LINES} of {len(data)} lines are shown."
  numbers = "; ".join(_describe(line) for line in drawn)
  above = _legend_height(len(drawn))
  svg = _svg(
    draw,
    title,
    f"{said} {numbers}.",
    size=(_SIZE[0], _SIZE[1] + above),
    margins=(0.75, above),
  )
  return Chart(title, svg, said)


def bars(
  title: str,
  caption: str,
  groups: Sequence[tuple[str, Sequence[float]]],
  labels: Sequence[str],
  *,
  unit: str,
  show: Callable[[float], str],
) -> Chart:
  """Draw horizontal bars, one group below the other.

  Args:
    title: Of the chart.
    caption: Says what it shows.
    groups: A name, and a value for each label.
    labels: What the bars of a group stand for.
    unit: Of the values.
    show: Formats a value.
  """
  thickness = 0.8 / len(labels)
  title, labels = plain(title), [plain(label) for label in labels]
  groups = [(plain(name), values) for name, values in groups]

  def draw(axes: Axes) -> None:
    for place, label in enumerate(labels):
      y = np.arange(len(groups)) + (place - (len(labels) - 1) / 2) * thickness
      values = [values[place] for _, values in groups]
      drawn = axes.barh(
        y,
        values,
        thickness * 0.9,
        label=label,
        color=palette.COLORS[place % len(palette.COLORS)],
        hatch=("", "//", "..", "xx")[place % 4],
        edgecolor="white",
        linewidth=0.5,
      )
      axes.bar_label(drawn, map(show, values), padding=3, fontsize=8)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(unit)
    if len(labels) > 1:
      _legend(axes, len(labels))

  numbers = "; ".join(
    f"{name}: {', '.join(map(show, values))}" for name, values in groups
  )
  above = _legend_height(len(labels))
  height = 0.6 + above + 0.27 * len(groups) * max(1, len(labels) * 0.6)
  longest = max(len(name) for name, _ in groups)
  svg = _svg(
    draw,
    title,
    f"{caption} {numbers}.",
    size=(_SIZE[0], height),
    margins=(min(2, 0.2 + 0.085 * longest), above),
  )
  return Chart(title, svg, caption)


def _shown(line: Line, log: bool) -> Line:
  """Return the points that an axis can show."""
  points = [
    (x, y)
    for x, y in zip(line.x, line.y, strict=True)
    if math.isfinite(y) and (y > 0 or not log)
  ]
  return dataclasses.replace(
    line, x=[x for x, _ in points], y=[y for _, y in points]
  )


def _thinned(line: Line) -> Line:
  """Return a line of means over equally many neighbours, if it is long."""
  if len(line.x) <= _MOST_POINTS or line.starred is not None:
    return line
  parts = np.array_split(np.arange(len(line.x)), _MOST_POINTS)
  x, y = np.asarray(line.x), np.asarray(line.y)
  return dataclasses.replace(
    line,
    x=[float(x[part].mean()) for part in parts],
    y=[float(y[part].mean()) for part in parts],
  )


def _limits(drawn: Sequence[Line]) -> tuple[float, float] | None:
  """Return the limits of most values if single ones lie far outside."""
  values = np.concatenate([line.y for line in drawn])
  if len(values) < 50:
    return None
  low, high = np.percentile(values, [2, 98])
  spread = high - low
  if spread <= 0 or np.ptp(values) < 4 * spread:
    return None
  return float(low - 0.3 * spread), float(high + 0.3 * spread)


def _scale_by_log(axes: Axes, drawn: Sequence[Line]) -> None:
  """Make the values' axis logarithmic, with plain numbers at its ticks."""
  axes.set_yscale("log")
  show = FuncFormatter(lambda value, _: number(value))
  axes.yaxis.set_major_formatter(show)
  values = [value for line in drawn for value in line.y]
  if max(values) < 30 * min(values):  # few powers of ten are on the axis
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(show)
  else:
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_line(axes: Axes, line: Line, place: int) -> None:
  color = palette.COLORS[place % len(palette.COLORS)]
  every = max(1, len(line.x) // 7)
  axes.plot(
    line.x,
    line.y,
    label=line.label,
    color=color,
    linewidth=1.6,
    linestyle=_DASHES[place // 3 % len(_DASHES)],
    marker=palette.MARKERS[place % len(palette.MARKERS)],
    markersize=4.5,
    markevery=(place % every, every),
  )
  if line.starred in line.x:
    y = line.y[list(line.x).index(line.starred)]
    axes.plot(line.starred, y, "*", color=color, markersize=14, zorder=3)


def _legend_height(count: int) -> float:
  """Return the inches that a legend takes."""
  rows = math.ceil(count / _legend_columns(count)) if count > 1 else 0
  return 0.15 + 0.19 * rows


def _legend_columns(count: int) -> int:
  return count if count <= 4 else 3


def _legend(axes: Axes, count: int) -> None:
  axes.legend(
    loc="lower center",
    bbox_to_anchor=(0.5, 1),
    ncols=_legend_columns(count),
    columnspacing=1.2,
    handlelength=2.4,
  )


def _describe(line: Line) -> str:
  first, last = number(line.y[0]), number(line.y[-1])
  if len(line.x) == 1:
    return f"{line.label}: {last} at {number(line.x[0])} kimg"
  return (
    f"{line.label}: from {first} at {number(line.x[0])} kimg to {last} at "
    f"{number(line.x[-1])} kimg, between {number(min(line.y))} and "
    f"{number(max(line.y))}"
  )


def _svg(
  draw: Callable[[Axes], None],
  title: str,
  description: str,
  *,
  size: tuple[float, float],
  margins: tuple[float, float],
) -> Markup:
  """Return a figure as an SVG element for a page.

  Args:
    draw: Draws into the axes.
    title: Read aloud in place of the picture.
    description: Likewise, longer.
    size: In inches.
    margins: On the left and above, in inches.
  """
  stream = io.StringIO()
  with matplotlib.rc_context(_STYLE):
    # Constrained layout would take half of the time.
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    left, top = margins
    figure.subplots_adjust(
      left=left / size[0],
      right=1 - 0.1 / size[0],
      bottom=0.5 / size[1],
      top=1 - top / size[1],
    )
    draw(axes)
    figure.savefig(
      stream, format="svg", transparent=True, metadata={"Date": None}
    )
  return _for_a_page(stream.getvalue(), title, description)


def _for_a_page(svg: str, title: str, description: str) -> Markup:
  """Make ids unique, drop metadata, add the title and the description."""
  ET.register_namespace("", _SVG)
  ET.register_namespace("xlink", _XLINK)
  root = ET.fromstring(svg)  # our own: no entities of somebody else
  prefix = f"c{hashlib.sha1((title + svg).encode()).hexdigest()[:8]}-"
  for child in list(root):
    if child.tag == f"{{{_SVG}}}metadata":
      root.remove(child)
  for element in root.iter():
    for name, value in element.attrib.items():
      if name == "id":
        element.set(name, prefix + value)
      elif name == f"{{{_XLINK}}}href" and value.startswith("#"):
        element.set(name, f"#{prefix}{value[1:]}")
      elif "url(#" in value:
        element.set(name, value.replace("url(#", f"url(#{prefix}"))
  for name in ("width", "height", "version"):
    root.attrib.pop(name, None)
  texts = []
  for tag, text in (("title", title), ("desc", description)):
    element = ET.Element(f"{{{_SVG}}}{tag}", id=f"{prefix}{tag}")
    element.text = text
    texts.append(element)
  root[:0] = texts
  root.set("role", "img")
  root.set("aria-labelledby", f"{prefix}title {prefix}desc")
  # ElementTree escapes all text, so that it is safe in a page.
  return Markup(ET.tostring(root, encoding="unicode"))
