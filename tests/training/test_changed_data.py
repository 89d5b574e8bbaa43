"""A run resumes with the data that it was trained on, and no other unasked."""

import contextlib
import dataclasses
import re
import shutil

import jax.numpy as jnp
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.checkpoints import checkpoint
from msggan_jax.data import run_data
from msggan_jax.training import batches, loop, replay
from msggan_jax.training.batches import CONTENT_HASH


@pytest.fixture
def config(quick_config, tmp_path):
  """A step at 8x8, of photos and sets that may change."""
  quick_config.resolution, quick_config.total_kimg = 8, 0.032
  photos = shutil.copytree(quick_config.dataset.path, tmp_path / "photos")
  for i in range(8):  # 4 is too small, the text no image
    side = 4 if i == 4 else 8
    Image.new("RGB", (side, side), (30 * i, 0, 0)).save(photos / f"x{i}.png")
  (photos / "notes.TXT").write_text("notes")
  quick_config.dataset.path = str(photos)
  quick_config.dataset.data_dir = str(tmp_path / "data")
  return quick_config


def lines_of_verify(config, workdir, capfd):
  capfd.readouterr()
  with contextlib.suppress(replay.Mismatch):
    replay.verify(config, workdir, "")
  return capfd.readouterr().out.splitlines()


def test_a_run_whose_data_has_changed(config, tmp_path, capfd):
  run, photos = tmp_path / "run", tmp_path / "photos"
  loop.train(config, run)
  assert "135 images in" in (printed := capfd.readouterr().out)
  assert "1 skipped: smaller than 8x8 (--config.resolution)\n" in printed
  assert "all that are skipped: " in printed and "rejected.jsonl" in printed
  assert "1 not read: not an image\n" in printed
  old = data.prepare(config)
  for name in ("x5.png", "y.png"):
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / name)
  config.total_kimg = 0.064
  before = (run / "config.json").read_bytes()
  with pytest.raises(ValueError) as error:
    loop.train(config, run)
  assert str(error.value) == (
    f"{old} is out of date: 1 image added, such as y.png; 1 image changed, "
    f"such as x5.png; {run} would resume with other data: --new_data accepts "
    f"that, --config.dataset.name=folder --config.dataset.path={old} keeps the "
    "old"
  )
  assert (run / "config.json").read_bytes() == before
  # A start with other data that has saved nothing changes no run.
  known = run_data.read(run)
  dataclasses.replace(known, content_hash="0" * 64).write(run)
  assert batches.trained_on(run).content_hash == known.content_hash
  known.write(run)
  # The run's own set is replayed, however the source has changed.
  (line,) = lines_of_verify(config, run, capfd)
  assert line.startswith("step 1: all ")
  data.prepare(config)  # beside
  with pytest.raises(
    ValueError, match="images are others; --new_data accepts .* keeps the old"
  ):
    loop.train(config, run)
  shutil.rmtree(old)
  lines = lines_of_verify(config, run, capfd)
  assert re.fullmatch(rf"{CONTENT_HASH} was \w{{12}}, is \w{{12}}", lines[0])
  assert any("its images are others" in line for line in lines)
  (run / "data.json").unlink()  # as in an older run
  with pytest.raises(ValueError, match="images are others; --new_data accepts"):
    loop.train(config, run)
  state = loop.train(config, run, new_data=True)
  assert int(state.step) == 2
  batches.open_set_of_run(config, run)  # it is the run's data now


def test_classes_and_exchanged_sets(config, tmp_path, monkeypatch):
  photos = tmp_path / "labeled"
  for i in range(4):
    folder = photos / "ba"[i % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(folder / f"{i}.png")
  config.dataset.path, config.dataset.labels = str(photos), "folders"
  prepared = batches.open_set(config)
  assert run_data.read(tmp_path) is None
  run_data.of(prepared).write(tmp_path)
  known = run_data.read(tmp_path)
  assert known.class_names == ("a", "b") and known.is_there()
  assert known.changes(prepared) == []
  copy = shutil.copytree(prepared.path, tmp_path / "sets" / "renamed")
  with monkeypatch.context() as patch:  # as on another machine
    patch.setattr(run_data.RunData, "is_there", lambda x: x.path == str(copy))
    assert data.prepare_of_run(config, str(copy.parent), tmp_path) == copy
  (photos / "b").rename(photos / "c")
  (change,) = known.changes(batches.open_set(config))
  assert change == "the classes were a, b, are a, c"  # the same images
  (photos / "a").rename(photos / "d")
  assert known.changes(batches.open_set(config)) == [
    "the classes were a, b, are c, d",
    "its images are others",
  ]
  # Labels are numbers, which mean the same class only by the same names.
  config.num_classes, config.augment, config.augment_target = 2, "exact", 0.5
  config.augment_holdout = str(photos)  # part of it may be trained on
  with pytest.raises(ValueError, match="which is the training set"):
    batches.open_holdout(config, prepared)
  config.augment_holdout = shutil.copytree(photos, f"{photos}-2")
  with pytest.raises(ValueError, match="has other classes than the training"):
    batches.open_holdout(config, prepared)
  shutil.rmtree(prepared.path)
  data.prepare(config).rename(prepared.path)
  assert not known.is_there()  # another set has its place
  away = run_data.RunData(path="x" * 300)  # it cannot be looked at
  assert not away.is_there()
  (tmp_path / "data.json").write_text('{"path": 1}')
  with pytest.raises(ValueError, match=r"data\.json is damaged; delete it"):
    run_data.read(tmp_path)


def test_other_held_out_images_are_refused(config, tmp_path):
  held_out = tmp_path / "held out"
  held_out.mkdir()
  Image.new("RGB", (8, 8)).save(held_out / "1.png")
  config.augment, config.augment_target = "exact", 0.5
  config.augment_holdout = str(held_out)
  prepared = batches.open_set(config)
  holdout = batches.open_holdout(config, prepared, tmp_path)
  depends = replay.provenance(config, prepared, holdout)
  with checkpoint.Checkpoints(
    tmp_path / "checkpoints", None, 0.0, depends
  ) as c:
    c.save(1, {"a": jnp.ones(1)})
  assert batches.open_holdout(config, prepared, tmp_path)
  Image.new("RGB", (8, 8)).save(held_out / "2.png")
  with pytest.raises(
    ValueError, match=r"trained with other held-out images than .*held_out-"
  ):
    batches.open_holdout(config, prepared, tmp_path)
  assert batches.open_holdout(config, prepared)
  config.augment_holdout = ""
  with pytest.raises(ValueError, match="other held-out images than none: give"):
    batches.open_holdout(config, prepared, tmp_path)
