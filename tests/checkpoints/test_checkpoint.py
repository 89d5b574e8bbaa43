"""Checkpoints: damage is noticed, passed over and left alone."""

import errno
import os
import random
import resource
import shutil

import jax
import numpy as np
import pytest

from msggan_jax.checkpoints import checkpoint, manifest
from msggan_jax.checkpoints.checkpoint import Checkpoints, SaveError
from msggan_jax.runtime import errors, sharding


def replicated():
  return sharding.replicated(sharding.make_mesh(jax.devices()))


def tree(step):
  """Return a step's arrays, on all devices of all processes."""
  host = {"a": np.full((40, 30), step, np.float32), "b": np.int32(step)}
  return jax.device_put(host, replicated())


def save(folder, *steps, **kept):
  with Checkpoints(folder, **kept) as checkpoints:
    for step in steps:
      checkpoints.save(step, tree(step))


def restored(checkpoints, step=None):
  """Return which step's tree is restored; check that it is whole."""
  abstract = sharding.abstract(tree(0), replicated())
  found = checkpoints.restore(abstract, step)
  step = int(found["b"].addressable_data(0))
  assert (np.asarray(found["a"].addressable_data(0)) == step).all()
  return step


def restored_in(folder, step=None):
  with Checkpoints(folder) as checkpoints:
    return restored(checkpoints, step)


def flip(path, rng):
  data = bytearray(path.read_bytes())
  data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  path.write_bytes(data)


def truncate(path, rng):
  data = path.read_bytes()
  path.write_bytes(data[: rng.randrange(len(data))])


def delete(path, rng):
  del rng
  path.unlink()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  """A folder of checkpoints 1 and 2, not to be written to."""
  folder = tmp_path_factory.mktemp("two") / "checkpoints"
  save(folder, 1, 2)
  return folder


def test_any_damage_is_passed_over(two, tmp_path):
  rng = random.Random(0)
  files = sorted(p for p in (two / "2").rglob("*") if p.is_file())
  files = [p for p in files if p.stat().st_size]
  assert len(files) > 5
  for i, path in enumerate(files):
    damage = (flip, truncate, delete)[i % 3]
    folder = tmp_path / str(i)
    shutil.copytree(two, folder)
    damage(folder / path.relative_to(two), rng)
    assert manifest.find_damage(folder / "1") is None
    # A flip in the manifest's white space changes nothing that counts.
    expected = 2 if manifest.find_damage(folder / "2") is None else 1
    assert expected == 1 or path.name == manifest.NAME
    assert restored_in(folder) == expected
    assert (folder / "2").is_dir()


@pytest.fixture
def folder(two, tmp_path):
  """A copy of theirs."""
  return shutil.copytree(two, tmp_path / "run")


def test_a_damaged_one_that_is_asked_for_is_refused(folder):
  delete(folder / "1" / "state" / "manifest.ocdbt", None)
  assert restored_in(folder) == 2
  with pytest.raises(ValueError, match=r"1 is damaged: state/.* is missing"):
    restored_in(folder, 1)
  delete(folder / "2" / "state" / "manifest.ocdbt", None)
  with pytest.raises(ValueError, match="every checkpoint in .* is damaged"):
    restored_in(folder)


def test_a_damaged_one_is_moved_aside_by_the_next_save(folder):
  flip(folder / "2" / "state" / "manifest.ocdbt", random.Random(1))
  with Checkpoints(folder, keep=1) as checkpoints:
    assert restored(checkpoints) == 1
    checkpoints.save(2, tree(2))
    checkpoints.save(3, tree(3))
  assert restored_in(folder) == 3
  assert (folder / "2.damaged").is_dir()
  assert not (folder / "1").exists()


def test_an_unfinished_one_is_no_checkpoint(tmp_path):
  save(tmp_path, 1)
  (tmp_path / "1" / manifest.NAME).unlink()
  with pytest.raises(FileNotFoundError):
    restored_in(tmp_path)
  save(tmp_path, 1)
  assert restored_in(tmp_path) == 1


@pytest.mark.parametrize("limit", [1024, None])
def test_a_full_disk_leaves_the_last_good_one(
  tmp_path, monkeypatch, caplog, limit
):
  """While Orbax writes, or afterwards, when the manifest is written."""
  save(tmp_path, 1)

  def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  wanted, (soft, hard) = tree(2), resource.getrlimit(resource.RLIMIT_FSIZE)
  with monkeypatch.context() as patch, Checkpoints(tmp_path, 1) as checkpoints:
    if limit:
      resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    else:
      patch.setattr(checkpoint.files, "write", fail)
    try:
      checkpoints.save(2, wanted)
      assert checkpoints._saving.exception()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text = "the newest is 1: (No space left on device|File too large)$"
    with pytest.raises(SaveError, match=text) as caught:
      checkpoints.check()
  assert errors.exit_code(caught.value) == 2 and not caplog.records
  with pytest.raises(SaveError, match="Not a directory") as caught:
    save(tmp_path / "1" / "manifest.json" / "checkpoints", 1)
  assert errors.exit_code(caught.value) == 2
  assert os.listdir(tmp_path) == ["1"]
  assert restored_in(tmp_path) == 1
  save(tmp_path, 2)
  assert restored_in(tmp_path) == 2


def test_the_first_after_each_multiple_stays(tmp_path):
  for steps in ((0, 2, 4, 6), (8, 10, 12, 14, 16)):  # a restart in between
    save(tmp_path / "c", *steps, keep=2, part_of=lambda step: step // 5.5)
  with Checkpoints(tmp_path / "c") as checkpoints:
    # 0 can have other weights.
    assert checkpoints.steps == [0, 6, 12, 14, 16]


def test_a_run_whose_checkpoints_are_away_is_not_begun_anew(two, tmp_path):
  def begin():
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
      return checkpoints.begin()

  def refused(name):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
      ValueError, match=f" has {name} of a run, but .* no goo"
    ):
      begin()
    assert sorted(tmp_path.rglob("*")) == before

  stats = tmp_path / "stats.jsonl"
  assert begin() is None
  stats.write_text("{}\n")
  assert begin() is None  # killed before its first checkpoint
  save(tmp_path / "checkpoints", 0)  # of a fine-tuned run
  assert begin() == 0
  save(tmp_path / "checkpoints", 1)
  assert begin() == 1
  shutil.rmtree(tmp_path / "checkpoints/1")
  refused("stats.jsonl")
  (tmp_path / "checkpoints/0" / manifest.NAME).unlink()
  refused("stats.jsonl")
  stats.unlink()
  refused("checkpoints/0")
  shutil.rmtree(tmp_path / "checkpoints")
  for name in ("metrics.jsonl", "samples/4x4/000001.000.png", "averages/20"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    refused(name)
    path.unlink()
  assert begin() is None
