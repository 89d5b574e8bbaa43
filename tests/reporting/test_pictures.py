"""Pictures: plots whatever the numbers and names are; grids."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from msggan_jax.reporting import pictures, records
from msggan_jax.runtime.plots import Line
from tests.reporting.written_runs import write_run


def texts(plot):
  kind, content = plot.uri.split(",")
  assert kind == "data:image/svg+xml;base64"
  root = ET.fromstring(base64.b64decode(content))
  return [
    element.text for element in root.iter() if element.tag[-5:] == "}text"
  ]


def size_of(uri):
  return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size


def run_of(workdir):
  [run] = records.read([str(workdir)])
  return run


def test_a_plot_says_its_numbers():
  line = Line("4\u00d74 $x$ <b>\x00", [(1, 0.5), (2, 2.0), (3, 1.0)], star=2)
  plot = pictures.plot("A & B", "Says it.", [line, line])
  assert texts(plot).count("4\u00d74 $x$ <b>\ufffd") == 2
  assert plot.numbers == (
    "At the end: 4\u00d74 $x$ <b>\ufffd 1, 4\u00d74 $x$ <b>\ufffd 1."
  )
  assert pictures.plot("A & B", "Says it.", [line, line]) == plot
  assert pictures.plot("A", "", [Line("x", [])]) is None
  plot = pictures.plot("A", "Says it.", 13 * [line])
  assert plot.caption == "Says it. The first 12 of 13 lines."


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
  line = Line("x", [(1, 0.0), (2, 0.001), (4, 1.0)])
  shown = texts(pictures.plot("X", "", [line], log=True))
  assert {"0.001", "0.01", "0.1", "1"} <= {*shown}
  narrow = Line("x", [(1, 0.02), (2, 0.04)])
  assert "0.02" in texts(pictures.plot("X", "", [narrow], log=True))
  assert pictures.plot("X", "", [Line("x", [(1, 0)])], log=True) is None


def test_large_numbers_are_whole_on_the_axis():
  """No factor stands above it, where there is no room; bytes are in GB."""
  line = Line("x", [(1, 0.0), (2, 1.5e9)])
  shown = texts(pictures.plot("X", "", [line]))
  assert "1e+09" in shown and "1e9" not in shown
  plot = pictures.plot("memory_bytes", "", [line])
  assert {"0.5", "1", "GB"} <= {*texts(plot)}
  assert plot.numbers == "At the end: x 1.5 GB."


def test_long_lines_are_thinned_and_outliers_cut_off():
  points = [(i / 10, np.sin(i)) for i in range(5000)]
  plot = pictures.plot("X", "Caption.", [Line("x", points)])
  assert len(plot.uri) < 40_000 and plot.caption == "Caption."
  plot = pictures.plot("X", "Caption.", [Line("x", [(0, 1e6), *points])])
  assert "Rare values outside of the axis are cut off." in plot.caption


def test_numbers():
  numbers = [records.number(x) for x in (0, 0.123456, 12345.6, 1e-9)]
  assert numbers == ["0", "0.1235", "12,346", "1.000e-09"]


def test_strips(tmp_path, monkeypatch):
  """Some of many grids are shown; large ones shrink; other files are left."""
  workdir = write_run(tmp_path / "run", grids=21)
  samples = workdir / "samples"
  Image.new("RGB", (1024, 512)).save(samples / "8x8" / "000004.000.png")
  Image.new("RGBA", (40, 40)).save(samples / "4x4" / "000004.000.png")
  (samples / "8x8" / "000000.000.png").write_text("no PNG")
  (samples / "8x8" / "notes.png").write_text("no time")
  (samples / "8x9").mkdir()
  monkeypatch.setattr(pictures, "_ALL_FRAMES", 15)
  strips = pictures.strips(run_of(workdir), total=1)
  assert list(strips) == [0, 4, 8]
  assert [kimg for kimg, _ in strips[4]] == [0.0, 1.0, 2.0, 3.0, 4.0]
  assert [kimg for kimg, _ in strips[8]] == [1.0, 2.0, 3.0, 4.0]
  assert size_of(strips[8][-1][1]) == (512, 256)
  assert size_of(strips[4][-1][1]) == (40, 40)
  assert len(pictures.strips(run_of(workdir), total=9)[4]) == 3
