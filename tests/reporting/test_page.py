"""The page: whole, safe, and written during a training."""

import html.parser
import json
import re
import subprocess
import sys

import pytest

from msggan_jax.reporting import page, pictures, records
from tests.reporting.written_runs import (
  METRIC,
  metrics_row,
  rows,
  stats_row,
  write_run,
)

SCRIPT = "<script>alert(1)</script>"


class Reader(html.parser.HTMLParser):
  """A page's elements and its texts by their element; all must be closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._open = [], [], []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in {"meta", "img", "input"}:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.texts.append((self._open[-1] if self._open else "", data))

  def all(self, tag):
    return [attrs for name, attrs in self.elements if name == tag]

  def said(self):
    texts = [x for tag, x in self.texts if tag not in ("script", "style")]
    return re.sub(r"\s+", " ", " ".join(texts))


def written(*workdirs):
  """Return the page of runs."""
  return Reader(page.render(records.read([*map(str, workdirs)])).decode())


def test_a_run_fills_one_page(tmp_path):
  read = written(write_run(tmp_path / "cats"))
  for attrs in (each for _, each in read.elements):
    assert "href" not in attrs
    assert attrs.get("src", "data:image/").startswith("data:image/")
  said = read.said()
  headings = [text for tag, text in read.texts if tag == "h2"][1:]
  assert headings[:2] == ["Samples over training", "Scores"]
  assert headings[2:4] == ["Records of training", "Where the time went"]
  assert f"The best {METRIC} is 0.25 at 4 kimg, of 4 evaluations" in said
  kinds = [a["src"].partition(";")[0] for a in read.all("img")]
  # The newest sheet, three strips of three, the real images, one of a metric.
  assert kinds.count("data:image/webp") == 1 + 3 * 3 + 1 + 1
  newest = pictures.encode(tmp_path / "cats" / METRIC / "500.png")
  assert newest in [attrs["src"] for attrs in read.all("img")]
  assert kinds.count("data:image/svg+xml") == 11
  said_by_plots = " ".join(attrs["alt"] for attrs in read.all("img"))
  assert "At the end: 4 0.75." in said_by_plots  # agreement by scale
  assert "_floor" not in said_by_plots
  assert "the star is the best. Last floor 0.125." in said
  # It can be read aloud.
  assert read.all("html")[0]["lang"] == "en"
  assert all(attrs.get("alt") for attrs in read.all("img"))
  assert len(read.all("caption")) == len(read.all("table"))
  assert all(attrs.get("scope") for attrs in read.all("th"))
  [slider], [label] = read.all("input"), read.all("label")
  assert slider["id"] == label["for"]


def test_hostile_records_stay_text(tmp_path):
  bad = {
    **{"loss": SCRIPT, SCRIPT: "x", "metrics": f"{METRIC},{SCRIPT}"},
    **{"base_grid": 5, "total_kimg": SCRIPT, "resolution": 1e300},
    "penalty": "{{ 7 * 7 }}{% for x in y %}",
    "optimizer": "\x00\x1b[31m \ud800 $x^2$ \u202e" + "long " * 9999,
    "eval_kimg": {"a": SCRIPT},
  }
  stats = [
    {**row, SCRIPT: 1.0, "secs/" + SCRIPT: 2.0, "a\x00$": 3.0, "x/\u202e": 1}
    | {"x/" + "9" * 5000: 1.0}
    for row in rows()
  ]
  metrics = [
    metrics_row(1.0, 0.5, name="kid_efficientnet_lite0_200"),
    {**metrics_row(2.0, 0.4), SCRIPT: 3.0, "protocols": {METRIC: SCRIPT}},
    {**metrics_row(3.0, 0.4), "weights_hash": 5, "protocols": [SCRIPT]},
    {**metrics_row(4.0, 0.4), "x" * 300: 1.0, "..": 1.0},
  ]
  workdir = tmp_path / "<img onerror=alert(1)>"
  write_run(workdir, config=bad, stats=stats, metrics=metrics)
  (workdir / "best.json").write_text(json.dumps({"metric": SCRIPT}))
  attempts = [{"step": SCRIPT, "not_finite": [SCRIPT, 5]}, SCRIPT]
  (workdir / "not_finite.json").write_text(json.dumps({"attempts": attempts}))
  read = written(workdir)
  [code] = [text for tag, text in read.texts if tag == "script"]
  assert "alert" not in code and len(read.all("script")) == 1
  names = [name for _, attrs in read.elements for name in attrs]
  assert not any(name.startswith("on") for name in names)
  said = read.said()
  assert said.count(SCRIPT) > 5 and "{{ 7 * 7 }}" in said
  [policy] = [a for a in read.all("meta") if "http-equiv" in a]
  assert "script-src 'sha256-" in policy["content"]


def test_damage_is_noted_and_skipped(tmp_path):
  workdir = write_run(tmp_path / "cats")
  with (workdir / "stats.jsonl").open("ab") as file:
    file.write(b'\xff\xfe\x00\n[1, 2]\n{"step": 1}\n{"step": NaN, "kimg": 1}\n')
    file.write(json.dumps(stats_row(4.0, d_loss=float("nan"))).encode())
    file.write(b'\n{"step": 501, "kimg": 4')  # being written
  (workdir / "best.json").write_text("{")
  (workdir / "checkpoints" / "50.damaged").mkdir(parents=True)
  newest = max((workdir / "samples" / "8x8").iterdir())
  newest.write_bytes(newest.read_bytes()[:100])  # being written
  read = written(workdir)
  assert (
    "Skipped while reading: 4 damaged rows of stats.jsonl; the damaged "
    "checkpoint 50.damaged; best.json, which is damaged."
  ) in read.said()
  frames = [a for a in read.all("img") if "8\u00d78" in a["alt"]]
  assert len(frames) == 2


def test_several_runs_side_by_side(tmp_path):
  long = "x" * 90
  alike = [
    str(write_run(tmp_path / "of" / name, grids=0))
    for name in ("a/run", "b/run", f"{long}/c", f"{long}/d")
  ]
  names = [run.name for run in records.read(alike[:2])]
  assert names == ["a/run", "b/run"]
  names = [run.name for run in records.read(alike)]
  assert len(set(names)) == 4 and names[3].endswith("xx/d")
  one = write_run(tmp_path / "one")
  other = write_run(
    tmp_path / "two",
    config={"learning_rate": 0.01},
    metrics=[metrics_row(2.0, 0.1), metrics_row(4.0, 0.2)],
  )
  third = write_run(tmp_path / "three", metrics=[])
  read = written(one, other, third)
  said = read.said()
  assert f"The best {METRIC} is 0.1 at 2 kimg" in said
  differing = said[said.index("Fields that differ") :]
  assert "learning_rate 0.003 0.01 0.003" in differing
  differing = differing[: differing.index(" base_grid ")]  # the same in all
  assert "resolution" not in differing
  assert len(read.all("ol")) == 9


def test_a_metric_of_a_scale_is_one_plot_of_all_runs(tmp_path):
  name = f"{METRIC}/4"
  rows_of = {"metrics": [metrics_row(1.0, 0.5, name=name)], "grids": 0}
  read = written(*(write_run(tmp_path / x, **rows_of) for x in "ab"))
  assert [text for _, text in read.texts].count(name) == 1
  assert "Last floor of a 0.25, floor of b 0.25." in read.said()


def test_of_many_numbers_the_newest_are_plotted(tmp_path):
  rows = [metrics_row(float(i), 0.5, name=f"fd_{i:02d}") for i in range(1, 31)]
  read = written(write_run(tmp_path / "run", metrics=rows, grids=0))
  texts = [text for _, text in read.texts]
  assert "fd_30" in texts and "fd_02" not in texts
  assert re.search(r"\d+ numbers, the oldest, have no plot\.", read.said())


def test_a_report_replaces_nothing_but_a_report(tmp_path, monkeypatch):
  ours = b"<!DOCTYPE html>\n<meta content=\"script-src 'sha256-x'\">"  # as ours
  monkeypatch.setattr(page, "render", lambda _: ours)
  for _ in range(2):  # a page may be replaced, another file may not
    assert page.write([], tmp_path / page.NAME) == len(ours)
  assert (tmp_path / page.NAME).read_bytes() == ours
  (tmp_path / "notes.html").write_text("<!DOCTYPE html>\n<p>mine</p>")
  with pytest.raises(ValueError, match="notes.html exists and is no report"):
    page.write([], tmp_path / "notes.html")


COMMAND = """
import runpy, sys
if {block!r}:
  sys.modules[{block!r}] = None
try:
  runpy.run_module("msggan_jax.report", run_name="__main__")
finally:
  assert "jax" not in sys.modules
"""


@pytest.mark.parametrize(
  ("block", "code", "said"),
  [
    ("", 0, r"{}/report.html: 0\.\d MB"),
    (
      "jinja2",
      2,
      r"error: the report needs the package jinja2: pip install "
      r"'msggan_jax\[report\]'",
    ),
  ],
)
def test_the_command_needs_no_jax_and_names_a_missing_extra(
  block, code, said, tmp_path
):
  workdir = write_run(tmp_path / "cats", grids=0)
  python = [sys.executable, "-c", COMMAND.format(block=block)]
  command = [*python, f"--workdir={workdir}"]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == code
  assert re.fullmatch(said.format(workdir) + "\n", done.stdout + done.stderr)


def test_bad_workdirs_end_in_a_sentence(tmp_path):
  (run,) = records.read(f"{write_run(tmp_path / 'demo-cats,grown')}".split(","))
  assert run.name == "demo-cats,grown"
  workdir = write_run(tmp_path / "cats", stats=[])
  given = str(workdir)
  for names, error, sentence in (
    ([given], ValueError, r"no rows in stats.jsonl yet; .* 0.1 k"),
    ([str(tmp_path / "nowhere")], FileNotFoundError, "it does not exist"),
    ([str(tmp_path)], FileNotFoundError, r"it has no config.json"),
    ([], ValueError, "has an empty name; give A or A,B,C"),
    (["", given], ValueError, "has an empty name; give A or A,B,C"),
    ([given, f"{given}/"], ValueError, "names a folder twice"),
  ):
    with pytest.raises(error, match=sentence):
      records.read(names)
  (workdir / "stats.jsonl").write_text('{"step": "1"}\nnonsense\n')
  with pytest.raises(ValueError, match=r"no rows in stats.jsonl yet"):
    records.read([given])
  (workdir / "config.json").write_text("[" * 9999)
  with pytest.raises(ValueError, match="holds no configuration"):
    records.read([given])
