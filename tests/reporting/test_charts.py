"""Charts: SVG with its words, whatever the numbers and names are."""

import math
import xml.etree.ElementTree as ET

import pytest

from msggan_jax.reporting import charts
from msggan_jax.reporting.charts import Line
from msggan_jax.reporting.records import number

SVG = "{http://www.w3.org/2000/svg}"


def texts(chart):
  root = ET.fromstring(chart.svg)
  return [element.text for element in root.iter(f"{SVG}text")]


def test_a_chart_says_its_numbers():
  line = Line("4\u00d74 $x$ <b>\x00", [1, 2, 3], [0.5, 2.0, 1.0], starred=2)
  chart = charts.lines("A & B", "Says it.", [line, line], unit="<u>")
  root = ET.fromstring(chart.svg)
  assert root.find(f"{SVG}title").text == "A & B"
  assert root.find(f"{SVG}desc").text.startswith(
    "Says it. 4\u00d74 $x$ <b>\ufffd: from 0.5 at 1 kimg to 1 at 3 kimg, "
    "between 0.5 and 2; "
  )
  assert "<u>" in texts(chart) and "4\u00d74 $x$ <b>\ufffd" in texts(chart)
  ids = [e.get("id") for e in root.iter() if e.get("id")]
  assert len(ids) == len({*ids})
  again = charts.lines("A & B", "Says it.", [line, line], unit="<u>")
  assert again.svg == chart.svg


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
  line = Line("x", [1, 2, 3, 4], [0.0, 0.001, math.inf, 1.0])
  chart = charts.lines("X", "", [line], unit="", log=True)
  assert "from 0.001 at 2 kimg to 1 at 4 kimg" in chart.svg
  assert {"0.001", "0.01", "0.1", "1"} <= {*texts(chart)}
  narrow = Line("x", [1, 2], [0.02, 0.04])
  chart = charts.lines("X", "", [narrow], unit="", log=True)
  assert "0.02" in texts(chart)
  assert charts.lines("X", "", [Line("x", [1], [0])], unit="", log=True) is None
  assert charts.lines("X", "", [], unit="") is None


def test_long_lines_are_thinned_and_outliers_cut_off():
  x = [i / 10 for i in range(5000)]
  y = [math.sin(i) for i in range(5000)]
  chart = charts.lines("X", "Caption.", [Line("x", x, y)], unit="")
  assert len(chart.svg) < 30_000
  assert chart.caption == "Caption."
  y[0] = 1e6
  chart = charts.lines("X", "Caption.", [Line("x", x, y)], unit="")
  assert "Rare values outside of the axis are cut off." in chart.caption


def test_bars():
  chart = charts.bars(
    "Time",
    "By purpose.",
    [("step", [3.0, 1.0]), ("data", [1.0, 0.0])],
    ["a", "b"],
    unit="minutes",
    show=lambda x: f"{x:.0f} min",
  )
  assert {"step", "data", "3 min", "a", "b", "minutes"} <= {*texts(chart)}
  assert "By purpose. step: 3 min, 1 min; data: 1 min, 0 min." in chart.svg


@pytest.mark.parametrize(
  ("value", "text"),
  [(0, "0"), (0.123456, "0.1235"), (12345.6, "12,346"), (1e-9, "1.000e-09")],
)
def test_numbers(value, text):
  assert number(value) == text
