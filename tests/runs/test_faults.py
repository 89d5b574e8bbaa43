"""Faults that could part processes: they agree, or end in one sentence."""

import errno
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from msggan_jax.checkpoints import checkpoint
from msggan_jax.config.fields import default_config
from msggan_jax.config.resolve import resolve
from msggan_jax.runtime import (
  folder_lock,
  preemption,
  processes,
  sharding,
)
from msggan_jax.training import batches, loop
from tests.checkpoints.test_checkpoint import restored, save, tree
from tests.runs.chaos import flip, halve
from tests.runs.forked import run_in_all


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_meet_faults(tmp_path, count):
  run_in_all(meet_faults, tmp_path, count)


def meet_faults(folder):
  """Meet one fault after the other; a call of all processes."""
  # For a test a shared disk is slow after a second.
  processes._PATIENCE_SECS = 1
  an_error_of_one_is_an_error_of_all()
  all_rematerialize_from_the_same_block()
  a_folder_that_one_does_not_see(folder)
  damaged_checkpoints(folder / "damaged")
  differently_visible_checkpoints(folder / "visible")
  a_signal_after_a_save(folder / "signal")
  values_of_all()
  an_image_that_one_cannot_read()


def is_last():
  return jax.process_index() == jax.process_count() - 1


def an_error_of_one_is_an_error_of_all():
  error = r"^bad$" if is_last() else r"^process \d of \d: bad$"
  for kind in (ValueError, OSError):
    with pytest.raises(kind, match=error), processes.raising_together():
      if is_last():
        raise kind("bad")
  with processes.raising_together():
    pass


def all_rematerialize_from_the_same_block():
  """The last process has more memory than the others."""
  config = default_config()
  config.remat_from = "auto"
  planned = resolve(
    config,
    jax.device_count(),
    fits=lambda c: is_last() or 0 < c.remat_from <= 64,
  )
  assert planned.remat_from == 64


def a_folder_that_one_does_not_see(folder):
  with folder_lock.only_run_in(folder / "shared"):
    pass
  mine = folder / ("other" if is_last() else "shared")
  with pytest.raises(ValueError, match="another folder than the first"):
    with folder_lock.only_run_in(mine):
      pass


def saved(folder, *steps):
  save(folder, *steps)
  multihost_utils.sync_global_devices(f"{folder.name} is saved")


def damaged_checkpoints(folder):
  saved(folder, 1, 2)
  for damage in (flip, halve, shutil.rmtree):
    if processes.is_first():
      damage(folder / "2")
    multihost_utils.sync_global_devices("checkpoint 2 is damaged")
    with checkpoint.Checkpoints(folder) as checkpoints:
      assert checkpoints.newest_good() == 1
      assert restored(checkpoints) == 1
      checkpoints.save(2, tree(2))
    multihost_utils.sync_global_devices("checkpoint 2 is saved again")
    with checkpoint.Checkpoints(folder) as checkpoints:
      assert restored(checkpoints) == 2


def differently_visible_checkpoints(folder):
  saved(folder, 1, 2)
  with checkpoint.Checkpoints(folder) as checkpoints:
    if is_last():  # as from a cache of the folder
      checkpoints._all_steps = lambda: [1]
    checkpoints.save(2, tree(2))  # exists
    checkpoints.save(3, tree(3))
    checkpoints.wait()
    assert checkpoints.newest_good() == 3
    with pytest.raises((ValueError, FileNotFoundError), match="no checkpoint"):
      restored(checkpoints, 3)


def a_signal_after_a_save(folder):
  """The step's number is far from the number of looks at the flag."""
  with preemption.Preemption() as stop:
    assert not any(stop.reached() for _ in range(3))
    saved(folder, 1000)
    if is_last():
      os.kill(os.getpid(), signal.SIGTERM)
    answers = [stop.reached()]
    while not answers[-1]:  # JAX passes the signal on within seconds
      multihost_utils.sync_global_devices(f"answer {len(answers)}")
      answers.append(stop.reached())
    assert all(stop.reached() for _ in range(3))
    # All have stopped after the same step.
    assert set(processes.from_all(len(answers))) == {len(answers)}
    with pytest.raises(preemption.Stopped, match="at step 1000,"):
      stop.check(1000)


def values_of_all():
  i, count = jax.process_index(), jax.process_count()
  texts = ["é" * 300 * each for each in range(count)]
  assert processes.from_all(texts[i]) == texts
  assert processes.from_first({"x": 0.1 + i}) == {"x": 0.1}
  assert processes.decided_by_first(lambda: f"of {i}") == "of 0"
  with pytest.raises(ValueError, match="invalid literal for int"):
    processes.decided_by_first(lambda: int("a"))  # nobody waits for the first
  processes.check_same("the data set", "ab")
  with pytest.raises(ValueError, match="the data set differs between the"):
    processes.check_same("the data set", f"{i}")


def an_image_that_one_cannot_read():
  """All have the batches before it; nobody waits for the next one."""
  mesh = sharding.make_mesh()
  double = jax.jit(lambda x: 2 * x.sum())
  for error, code in ((ValueError, 2), (OSError, 1)):

    def parts(error=error):
      for i in range(3):
        yield {"image": np.full(1, i, np.int32)}
      if is_last():
        raise error("image 7 is bad")
      while True:
        yield {"image": np.zeros(1, np.int32)}

    feed, sums = batches.Feed(mesh, parts()), []
    while feed.has_next():
      sums.append(int(double(next(feed)["image"])))
    assert sums == [2 * i * jax.device_count() for i in range(3)]
    sentence = "^image 7" if is_last() else r"process \d of \d: image 7 is bad"
    with pytest.raises(batches.Unreadable, match=sentence) as caught:
      next(feed)
    assert caught.value.code == code


def test_a_second_run_is_refused(tmp_path):
  folder = tmp_path / "run"
  with folder_lock.only_run_in(folder):
    with pytest.raises(
      ValueError, match=rf"run is in use by another run \(process {os.getpid()}"
    ):
      with folder_lock.only_run_in(folder):
        pass
  with folder_lock.only_run_in(folder):
    (folder / "config.json").touch()
  assert folder.exists()


def test_a_workdir_is_taken_before_a_set_is_prepared(quick_config, tmp_path):
  data_dir = tmp_path / "data"
  quick_config.dataset.data_dir = str(data_dir)
  (tmp_path / "file").touch()
  with pytest.raises(NotADirectoryError):
    loop.train(quick_config, tmp_path / "file" / "run")
  with folder_lock.only_run_in(tmp_path / "run"):
    with pytest.raises(ValueError, match="in use by another run"):
      loop.train(quick_config, tmp_path / "run")
  quick_config.dataset.path = str(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="nowhere"):
    loop.train(quick_config, tmp_path / "run")
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_disk_that_cannot_be_written_to(tmp_path, monkeypatch, code):
  original = folder_lock.Path.open

  def refuse(path, *arguments, **options):
    if path.name == folder_lock.NAME:
      raise OSError(code, os.strerror(code), str(path))
    return original(path, *arguments, **options)

  monkeypatch.setattr(folder_lock.Path, "open", refuse)
  with pytest.raises(OSError, match=rf"{os.strerror(code)}: '.*run/\.lock'"):
    with folder_lock.only_run_in(tmp_path / "run"):
      pass


def test_a_disk_without_locks_is_warned_about(tmp_path, monkeypatch, caplog):
  def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
  with folder_lock.only_run_in(tmp_path / "run"):
    assert "this disk has no locks" in caplog.text


def test_leftovers_of_killed_saves_are_removed(tmp_path):
  ours = ["5.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp-123"]
  others = ["5", "5.damaged", "x.orbax-checkpoint-tmp", "notes"]
  folder = tmp_path / "checkpoints"
  for name in (*ours, *others):
    (folder / name / "state").mkdir(parents=True)
  (tmp_path / ".config.json.0123abcd.tmp").write_text("{")
  (tmp_path / checkpoint.STARTING).write_text("")
  with checkpoint.Checkpoints(folder) as checkpoints:
    assert checkpoints.begin() is None
  assert sorted(os.listdir(folder)) == sorted(others)
  assert sorted(os.listdir(tmp_path)) == [checkpoint.STARTING, "checkpoints"]
