"""Workdirs of others: read as data, within their folder, and nothing more."""

import ast
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import msggan_jax
from msggan_jax import data, load_generator
from msggan_jax.checkpoints import checkpoint, manifest
from msggan_jax.config import saved
from msggan_jax.config.fields import FIELDS, default_config
from msggan_jax.models import networks
from msggan_jax.runtime import sharding
from tests import fuzzing
from tests.algorithm.runs import random_arrays, small_config, write_run
from tests.conftest import load_config

PACKAGE = Path(msggan_jax.__file__).parent
STEP = 5


@pytest.fixture(scope="module")
def original(tmp_path_factory):
  """A run's folder, not to be written to."""
  workdir = tmp_path_factory.mktemp("original") / "run"
  config = small_config(latent_size=6)
  config.batch_size = default_config().batch_size
  write_run(config, workdir, STEP)
  (workdir / "best.json").write_text(json.dumps({"step": STEP}))
  return workdir


@pytest.fixture
def workdir(original, tmp_path):
  """A copy that can be spoiled."""
  shutil.copytree(original, tmp_path / "run")
  return tmp_path / "run"


def rewrite(path, change):
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))


# What code of ours can do at all.

# Modules and functions that make programs of data, to where we use them.
DANGEROUS = {
  "runpy": {"runtime/cli.py"},  # for the user's --config
  "pickle": {"sharing/foreign/restricted.py"},  # of chosen instructions
  "importlib.import_module": {
    "__init__.py",  # our own modules
    "data/arrays.py",  # readers of formats, by our own names
    "metrics/__init__.py",
    "metrics/extractors.py",  # named by the user
    "sample.py",  # of the table of modes
  },
}
FORBIDDEN = (
  *("cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "yaml"),
  *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
)


def test_nothing_makes_programs_of_data():
  found = {}
  for path in PACKAGE.rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names]
        names.append(getattr(node, "module", None))
      elif isinstance(node, ast.Call):
        names = [ast.unparse(node.func)]
        assert "allow_pickle" not in {k.arg for k in node.keywords}, path
      for name in {*DANGEROUS, *FORBIDDEN} & set(names):
        found.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
  assert found == DANGEROUS


# What Python does while a workdir is loaded.


def test_loading_runs_and_writes_nothing(workdir, tmp_path):
  def change(fields):
    made = str(tmp_path / "made")
    fields["extractor"] = "antigravity:geohash"
    fields["metrics"] = "fd_geohash_10_full"
    fields["inception_path"] = fields["workdir"] = made
    fields["dataset"] |= {"name": "folder", "path": made, "data_dir": made}

  load_generator(workdir)  # imports what it takes
  rewrite(workdir / "config.json", change)
  before = sorted(tmp_path.rglob("*"))
  with fuzzing.watch() as events:
    generator = load_generator(workdir, "best")
  assert sorted(tmp_path.rglob("*")) == before
  opened = [arguments for event, arguments in events if event == "open"]
  assert {event for event, _ in events} == {"open"}
  assert opened
  for path, _, flags in opened:
    assert Path(os.fsdecode(path)).is_relative_to(workdir)
    assert flags & os.O_ACCMODE == os.O_RDONLY
  expected, _ = random_arrays(networks.make_generator(generator.config))
  jax.tree.map(np.testing.assert_array_equal, generator.params, expected)


def test_training_on_takes_no_names_of_files_folders_sets_and_code(workdir):
  def change(fields):
    fields |= {"extractor": "os:abort", "augment_holdout": "/secret"}
    fields |= {"inception_path": "/secret", "keep": 7}
    fields["dataset"] |= {"name": "folder", "path": "/secret", "split": "test"}
    fields["dataset"]["data_dir"] = "/secret"

  rewrite(workdir / "config.json", change)
  config = load_config("workdir", str(workdir))
  ours = default_config()
  ours.keep, ours.dataset.split = 7, "test"
  differing = {
    name
    for name, value in saved.by_name(config.to_dict()).items()
    if value != saved.by_name(ours.to_dict())[name]
  }
  assert all(FIELDS[name].shapes_networks for name in differing), differing
  assert {"resolution", "latent_size"} <= differing


def test_no_code_of_data_sets_is_downloaded(tmp_path):
  config = load_config("default")
  config.dataset.name, config.dataset.data_dir = "somebody:cats", str(tmp_path)
  with pytest.raises(ValueError, match="not a data set of TFDS's own catalog"):
    data.prepare(config)
  assert not os.listdir(tmp_path)


# Odd files.


def test_odd_configurations(workdir):
  odd = ["", "[", "[]", "7", "{}", "[" * 10**5, '{"resolution": {}}']
  for content in odd:
    (workdir / "config.json").write_text(content)
    with pytest.raises(ValueError, match="configuration"):
      load_generator(workdir)


def test_odd_marks_are_no_marks(workdir):
  steps = [b'{"step": [5]}', b'{"step": "../5"}']
  for content in [b"", b"{", b"[]", b"\xff", b"[" * 10**5, *steps]:
    (workdir / "best.json").write_bytes(content)
    with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
      with pytest.raises(FileNotFoundError, match="no checkpoint marked"):
        checkpoints.find("best")


def test_odd_manifests(workdir):
  folder = workdir / "checkpoints" / str(STEP)
  os.mkfifo(folder / "pipe")
  for files, problem in (
    ({"../../../config.json": [9, ""]}, "names a path outside the folder"),
    ({"/etc/passwd": [9, ""]}, "names a path outside the folder"),
    ({"\x1b[2J": [9, ""]}, "names a path outside the folder"),
    ({"state": [4096, ""]}, "state is missing"),
    ({"pipe": [0, ""]}, "pipe is missing"),
    ({"a\0b": [0, ""]}, "names a path outside the folder"),
    ({"state": [float("inf"), ""]}, "is damaged"),
    ({"state": None}, "is damaged"),
    ([], "is damaged"),
    ("[" * 10**5, "is damaged"),
  ):
    text = files if isinstance(files, str) else json.dumps(files)
    (folder / manifest.NAME).write_text(text)
    assert problem in manifest.find_damage(folder)
    with pytest.raises(
      ValueError, match=f"^checkpoint .* is damaged: .*{problem}"
    ):
      load_generator(workdir, STEP)


def test_links_lead_nowhere(workdir, tmp_path):
  outside = tmp_path / "outside"
  checkpoints = workdir / "checkpoints"
  shutil.copytree(checkpoints / str(STEP), outside)
  before = {p: p.stat().st_mtime_ns for p in outside.rglob("*")}
  (checkpoints / "7").symlink_to(outside)
  (checkpoints / "6.deleted").symlink_to(outside)
  shutil.copytree(outside, checkpoints / "8")
  shutil.rmtree(checkpoints / "8" / "state" / "d")
  (checkpoints / "8" / "state" / "d").symlink_to(outside / "state" / "d")
  for step in (7, 8):
    with pytest.raises(ValueError, match="is a symbolic link, which no"):
      load_generator(workdir, step)
  load_generator(workdir)  # passes over them
  shapes = networks.make_generator(saved.load_config(workdir)).shapes[0]
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  # Further training deletes old files in the workdir, none outside.
  with checkpoint.Checkpoints(checkpoints, keep=1) as opened:
    opened.restore(sharding.abstract({"ema_params": shapes}, device))
    for step in (7, 8, 9):
      opened.save(step, {"a": jax.numpy.zeros(2)})
  left = {path.name for path in checkpoints.iterdir()}
  assert left == {"5", "7.damaged", "8.damaged", "9"}  # 5 is the best
  assert {p: p.stat().st_mtime_ns for p in outside.rglob("*")} == before


def test_odd_metadata_with_the_right_checksums(workdir, tmp_path):
  folder = workdir / "checkpoints" / str(STEP)
  path = folder / "state" / "_METADATA"
  text = path.read_text()
  for odd in (text.replace("jax.Array", "os.system"), "[" * 10**5, "{}"):
    path.write_text(odd)
    (folder / manifest.NAME).unlink()
    manifest.write(folder)
    before = sorted(tmp_path.rglob("*"))
    with fuzzing.watch() as events:
      try:
        load_generator(workdir)
      except ValueError as error:
        assert "cannot be loaded" in str(error)
        assert "\n" not in str(error)
    assert sorted(tmp_path.rglob("*")) == before
    assert {event for event, _ in events} <= {"open", "import"}


def test_networks_of_another_size(workdir, capfd):
  rewrite(workdir / "config.json", lambda fields: fields.update(latent_size=7))
  with pytest.raises(
    ValueError, match="cannot be loaded: ema_params/"
  ) as error:
    load_generator(workdir)
  assert str(error.value).endswith("/kernel is (6, 64), expected (7, 64)")
  assert capfd.readouterr() == ("", "")
