"""The page: whole, safe, small, and written during a training."""

import html.parser
import json
import re
import subprocess
import sys

import pytest

from msggan_jax.reporting import page, records
from tests.reporting.written_runs import (
  METRIC,
  metrics_row,
  rows,
  stats_row,
  write_lines,
  write_run,
)

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "img", "input", "br"}


class Reader(html.parser.HTMLParser):
  """A page's elements and texts; its elements must be closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._open = [], [], []
    self.feed(text)
    self.close()
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

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


@pytest.fixture(scope="module")
def read(tmp_path_factory):
  """The page of one run."""
  return written(write_run(tmp_path_factory.mktemp("runs") / "cats"))


def test_a_run_fills_one_page(read):
  for attrs in (each for _, each in read.elements):
    for name in ("src", "href", "xlink:href"):
      assert attrs.get(name, "#").startswith(("#", "data:image/webp;base64,"))
  said = read.said()
  for heading in (
    "Configuration",
    "Losses",
    "Penalties per scale",
    "Metrics",
    "Stability per scale",
    "Speed and memory",
    "Where the time went",
    "Rollbacks and damage",
    "Samples over training",
  ):
    assert heading in said
  assert f"The best {METRIC} is 0.25 at 4 kimg, of 4 evaluations" in said
  assert "No rollback is recorded." in said
  assert len(read.all("h1")) == 1
  assert len([a for a in read.all("input") if a["type"] == "range"]) == 3


def test_it_can_be_read_aloud(read):
  assert read.all("html")[0]["lang"] == "en"
  assert all(attrs.get("alt") for attrs in read.all("img"))
  ids = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
  assert len({*ids}) == len(ids)
  charts = read.all("svg")
  assert len(charts) > 8
  for attrs in charts:
    assert attrs["role"] == "img"
    assert {*attrs["aria-labelledby"].split()} <= {*ids}
  assert len(read.all("caption")) == len(read.all("table"))
  assert all(attrs.get("scope") for attrs in read.all("th"))
  for attrs in read.all("input"):
    assert attrs.get("aria-label") or attrs["id"] == "together"
  targets = [attrs["href"] for attrs in read.all("a")]
  assert {target.removeprefix("#") for target in targets} <= {*ids}


def test_hostile_records_stay_text(tmp_path):
  bad = {
    "loss": SCRIPT,
    SCRIPT: "x",
    "metrics": f"{METRIC},{SCRIPT}",
    "penalty": "{{ 7 * 7 }}{% for x in y %}",
    "optimizer": "\x00\x1b[31m \ud800 $x^2$ \u202e" + "long " * 9999,
    "total_kimg": SCRIPT,
    "eval_kimg": {"a": SCRIPT},
    "resolution": 1e300,
  }
  stats = [
    {**row, SCRIPT: 1.0, "secs/" + SCRIPT: 2.0, "a\x00$": 3.0, "x/\u202e": 1}
    for row in rows()
  ]
  metrics = [
    metrics_row(1.0, 0.5, name="kid_efficientnet_lite0_200"),
    {**metrics_row(2.0, 0.4), SCRIPT: 3.0, "protocols": {METRIC: SCRIPT}},
    {**metrics_row(3.0, 0.4), "weights_hash": 5, "protocols": [SCRIPT]},
  ]
  workdir = write_run(
    tmp_path / "<img onerror=alert(1)>",
    config=bad,
    stats=stats,
    metrics=metrics,
  )
  (workdir / "best.json").write_text(json.dumps({"metric": SCRIPT}))
  attempt = {"step": SCRIPT, "not_finite": [SCRIPT, 5]}
  (workdir / "not_finite.json").write_text(json.dumps({"attempts": [attempt]}))
  write_lines(workdir / "rollbacks.jsonl", [attempt, {"step": {}}])
  write_lines(workdir / "unreadable.jsonl", [{"image": SCRIPT, "reason": []}])
  read = written(workdir)
  assert len(read.all("script")) == 1
  [code] = [text for tag, text in read.texts if tag == "script"]
  assert "alert" not in code
  assert not any(
    name.startswith("on") for _, attrs in read.elements for name in attrs
  )
  said = read.said()
  assert said.count(SCRIPT) > 10 and "{{ 7 * 7 }}" in said
  [policy] = [a for a in read.all("meta") if "http-equiv" in a]
  assert "script-src 'sha256-" in policy["content"]


def test_damage_is_noted_and_skipped(tmp_path):
  workdir = write_run(tmp_path / "cats")
  stats = workdir / "stats.jsonl"
  with stats.open("ab") as file:
    file.write(b'\xff\xfe\x00\n[1, 2]\n{"step": 1}\n{"step": NaN, "kimg": 1}\n')
    file.write(json.dumps(stats_row(4.0, d_loss=float("nan"))).encode())
    file.write(b'\n{"step": 501, "kimg": 4')  # being written
  (workdir / "best.json").write_text("{")
  newest = max((workdir / "samples" / "8x8").iterdir())
  newest.write_bytes(newest.read_bytes()[:100])  # being written
  read = written(workdir)
  said = read.said()
  assert (
    "Skipped while reading: 2 damaged rows of stats.jsonl; 2 rows of "
    "stats.jsonl without a step; best.json, which is damaged." in said
  )
  frames = [a for a in read.all("img") if "8\u00d78" in a["alt"]]
  assert len(frames) == 2


def test_rollbacks_and_damaged_images_are_listed(tmp_path):
  workdir = write_run(tmp_path / "cats")
  rollback = {"step": 70, "not_finite": ["d_loss", "g/w"], "to_step": 50}
  write_lines(workdir / "rollbacks.jsonl", [rollback])
  images = [{"image": i, "reason": f"reason {i}"} for i in range(50)]
  write_lines(workdir / "unreadable.jsonl", images)
  (workdir / "checkpoints" / "50.damaged").mkdir(parents=True)
  said = written(workdir).said()
  assert "d_loss and g/w" in said
  assert "Damaged images of the prepared set: 50, the last 30 of them" in said
  assert "reason 49" in said and "reason 19" not in said
  assert "50.damaged" in said


def test_several_runs_side_by_side(tmp_path):
  one = write_run(tmp_path / "one")
  other = write_run(
    tmp_path / "two",
    config={"learning_rate": 0.01},
    metrics=[metrics_row(2.0, 0.1), metrics_row(4.0, 0.2)],
  )
  third = write_run(tmp_path / "three", metrics=[])
  read = written(one, other, third)
  said = read.said()
  assert (
    f"By {METRIC} the best is two with 0.1 at 2 kimg, then one with 0.25 at 4 "
    "kimg (three: other protocol, data or feature weights, or no score)."
  ) in said
  differing = said[said.index("Fields that differ") :]
  differing = differing[: differing.index("The same in all runs")]
  assert "learning_rate 0.003 0.01 0.003" in differing
  assert "resolution" not in differing
  assert len([a for a in read.all("input") if a["type"] == "range"]) == 9


def test_runs_of_one_name_are_told_apart(tmp_path):
  runs = [write_run(tmp_path / name / "run") for name in "ab"]
  names = [run.name for run in records.read([*map(str, runs)])]
  assert names == [str(run) for run in runs]


def test_pictures_shrink_to_the_limit(tmp_path, monkeypatch):
  runs = records.read([str(write_run(tmp_path / "cats", grids=30))])
  context = page._context(runs)
  monkeypatch.setattr(page, "_context", lambda _: context)
  whole = len(page.render(runs))
  monkeypatch.setattr(page, "_MOST_BYTES", whole - 1)
  assert len(page.render(runs)) < whole
  monkeypatch.setattr(page, "_MOST_BYTES", 1000)
  with pytest.raises(ValueError, match=r"more than 1,000; name fewer runs"):
    page.render(runs)


@pytest.mark.parametrize("obstacle", ["folder", "read-only", "missing"])
def test_a_report_that_cannot_be_written(tmp_path, monkeypatch, obstacle):
  runs = records.read([str(write_run(tmp_path / "cats"))])
  monkeypatch.setattr(page, "render", lambda _: b"a page")
  path = tmp_path / "cats" / page.NAME
  if obstacle == "folder":
    path.mkdir()
  elif obstacle == "missing":
    path = tmp_path / "nowhere" / page.NAME
  else:
    path.write_text("the old one")

    def refuse(*_):
      raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(page.Path, "replace", refuse)
  with pytest.raises(ValueError) as error:
    page.write(runs, path)
  assert re.fullmatch(
    rf"{path} cannot be written: .*; close it .* --output", str(error.value)
  )
  if obstacle == "read-only":
    assert path.read_text() == "the old one"
  assert [p.name for p in path.parent.glob(".report*")] == []


def test_an_error_leaves_the_old_page(tmp_path, monkeypatch):
  runs = records.read([str(write_run(tmp_path / "cats"))])
  path = tmp_path / "cats" / page.NAME
  path.write_text("the old one")

  def fail(_):
    raise ValueError("too large")

  monkeypatch.setattr(page, "render", fail)
  with pytest.raises(ValueError, match="too large"):
    page.write(runs, path)
  assert [p.name for p in path.parent.glob("*report*")] == [page.NAME]
  assert path.read_text() == "the old one"


COMMAND = """
import runpy, sys
sys.argv = ["report", *sys.argv[1:]]
if {block!r}:
  sys.modules[{block!r}] = None
try:
  runpy.run_module("msggan_jax.report", run_name="__main__")
finally:
  assert "jax" not in sys.modules
"""


def command(*arguments, block=""):
  """Run the command; return its exit code and what it says."""
  code = COMMAND.format(block=block)
  done = subprocess.run(
    [sys.executable, "-c", code, *arguments], capture_output=True, text=True
  )
  return done.returncode, done.stdout + done.stderr


def test_the_command_needs_no_jax(tmp_path):
  workdir = write_run(tmp_path / "cats")
  code, said = command(f"--workdir={workdir}")
  assert (code, said) == (0, f"{workdir}/report.html: 0.2 MB\n")
  assert (workdir / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_missing_extra_is_named(tmp_path):
  workdir = write_run(tmp_path / "cats")
  code, said = command(f"--workdir={workdir}", block="jinja2")
  assert code == 2 and said == (
    "error: the report needs the package jinja2: pip install "
    "'msggan_jax[report]'\n"
  )
  assert not (workdir / "report.html").exists()


def test_bad_workdirs_end_in_a_sentence(tmp_path):
  workdir = write_run(tmp_path / "cats", stats=[])
  with pytest.raises(ValueError, match=r"no rows in stats.jsonl yet; .* 0.1 k"):
    records.read([str(workdir)])
  (workdir / "stats.jsonl").write_text('{"step": "1"}\nnonsense\n')
  with pytest.raises(ValueError, match=r"no rows in stats.jsonl yet"):
    records.read([str(workdir)])
  with pytest.raises(FileNotFoundError, match="it does not exist"):
    records.read([str(tmp_path / "nowhere")])
  with pytest.raises(FileNotFoundError, match=r"it has no config.json"):
    records.read([str(tmp_path)])
  for names in ([], ["", str(workdir)]):
    with pytest.raises(ValueError, match="has an empty name; give A or A,B,C"):
      records.read(names)
  with pytest.raises(ValueError, match="names a folder twice"):
    records.read([str(workdir), f"{workdir}/"])
  (workdir / "config.json").write_text("[" * 9999)
  with pytest.raises(ValueError, match="holds no configuration"):
    records.read([str(workdir)])
