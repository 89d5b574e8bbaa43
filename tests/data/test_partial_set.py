"""Preparation resumes after a kill, with identical results."""

import concurrent.futures
import fcntl
import itertools
import json
import os
import signal
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from msggan_jax import data
from msggan_jax.data import (
  holdout,
  partial_set,
  record_writer,
  set_writer,
)
from msggan_jax.data.sources import config_of
from msggan_jax.runtime import folder_lock
from tests.commands import run_command
from tests.conftest import contents

NUM_FILES = 23
BAD = {3, 4, 5, 11, 22}  # 3 to 5: a whole piece of those below


@pytest.fixture(autouse=True)
def pieces_of_three(monkeypatch):
  monkeypatch.setattr(set_writer, "PIECE_IMAGES", 3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder of images, five of which are damaged."""
  path = tmp_path_factory.mktemp("pieces") / "photos"
  path.mkdir()
  for i in range(NUM_FILES):
    file = path / f"{i}.png"
    if i in BAD:
      file.write_bytes(b"no image")
    else:
      Image.new("RGB", (20 + 9 * i, 30), (10 * i, i, 0)).save(file)
  for name in ("a.npy", "b.npy", "c.dcm"):
    (path / name).write_bytes(b"no image")
  return path


def prepare(source, output, holdout=0.0, **options):
  config = config_of(str(source), 16, holdout=holdout)
  return data.prepare(config, output=output, **options)


@pytest.fixture
def whole(photos):
  """The contents of the set that no kill has delayed, with a hold-out."""
  return contents(prepare(photos, photos.with_name("whole"), 0.25))


class Killed(BaseException):
  """Ends a preparation as a kill does: nothing handles it."""


def kill_at(patch, owner, name, count, error=Killed):
  """Make the call of a function with a number from 0 the last one."""
  original = getattr(owner, name)
  calls = iter(range(count + 1))

  def function(*args, **kwargs):
    if next(calls) == count:
      raise error
    return original(*args, **kwargs)

  patch.setattr(owner, name, function)


@pytest.fixture
def killed(photos, tmp_path, monkeypatch):
  """The target of a preparation that has finished four pieces."""
  with monkeypatch.context() as patch:
    kill_at(patch, partial_set.PartialSet, "add_piece", 4)
    with pytest.raises(Killed):
      prepare(photos, tmp_path / "set")
  return tmp_path / "set"


# Where it is killed: the function and its number of calls before.
KILLS = {
  "before the first piece": [(set_writer, "_make_piece", 0)],
  "before a shard has its name": [(os, "fsync", 4)],
  "before a piece is noted": [(partial_set.PartialSet, "add_piece", 3)],
  "between pieces": [(set_writer, "_make_piece", 5)],
  "twice": [
    (record_writer.RecordWriter, "_serialize", 4),
    (record_writer.RecordWriter, "_serialize", 5),
  ],
  "behind all pieces": [(holdout, "write", 0)],
  "when all is written": [(partial_set.PartialSet, "move_to", 0)],
}


@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS)
def test_a_killed_preparation_goes_on(
  photos, whole, tmp_path, monkeypatch, kills
):
  path = tmp_path / "sets" / "killed"
  for owner, name, count in kills:
    with monkeypatch.context() as patch:
      kill_at(patch, owner, name, count)
      with pytest.raises(Killed):
        prepare(photos, path, 0.25)
    assert not path.exists()
  assert prepare(photos, path, 0.25) == path
  assert contents(path) == whole
  assert [entry.name for entry in path.parent.iterdir()] == ["killed"]


def test_what_was_finished_is_not_read_again(photos, killed, monkeypatch):
  read, make = [], set_writer._make_picture
  note = lambda source, i, *args: read.append(i) or make(source, i, *args)
  monkeypatch.setattr(set_writer, "_make_picture", note)
  path = prepare(photos, killed)
  assert sorted(read) == list(range(12, NUM_FILES))
  rows = (path / "rejected.jsonl").read_text().splitlines()
  names = [json.loads(row)["name"] for row in rows]
  assert names == [f"{i}.png" for i in sorted(BAD)]
  # What is left has its place, for TFDS, too.
  names = sorted(file.name for file in path.glob("*array_record*"))
  assert names == [f"images-train.array_record-{i:05d}" for i in range(7)]
  builder = tfds.builder_from_directory(path)
  assert builder.info.splits["train"].num_examples == NUM_FILES - len(BAD)
  for images in (
    data.open_prepared(path),
    builder.as_data_source(split="train"),
  ):
    left = [int(image["image"][0, 0, 1]) for image in images]
    assert left == sorted(set(range(NUM_FILES)) - BAD)


@pytest.mark.parametrize("change", ["image", "settings"])
def test_another_source_begins_anew(photos, tmp_path, killed, change):
  channels = 1 if change == "settings" else 3
  file = photos / "0.png"
  before, times = file.read_bytes(), file.stat()
  if change == "image":
    Image.new("RGB", (16, 16), (7, 7, 7)).save(file)
  config = config_of(str(photos), 16, channels)
  expected = data.prepare(config, output=tmp_path / "whole")
  data.prepare(config, output=killed)
  assert contents(killed) == contents(expected)
  file.write_bytes(before)
  os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_torn_piece_is_made_again(photos, whole, tmp_path, monkeypatch):
  path, partial = tmp_path / "set", tmp_path / ".set.partial"
  for tear in ("set/images-train.array_record-00001", "piece-00002.json"):
    with monkeypatch.context() as patch:
      kill_at(patch, set_writer, "_write_contact_sheet", 0)
      with pytest.raises(Killed):
        prepare(photos, path, 0.25)
    file = partial / tear
    os.truncate(file, file.stat().st_size - 1)  # a disk that lost power
  assert contents(prepare(photos, path, 0.25)) == whole


@pytest.mark.parametrize("strict", [True, False])
def test_bad_input_leaves_nothing(
  photos, tmp_path, killed, monkeypatch, strict
):
  if not strict:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(NUM_FILES):
      (photos / f"{i}.png").write_bytes(b"")
  count = 4 if strict else NUM_FILES
  pieces = len(contents(killed.with_name(".set.partial")))
  with pytest.raises(ValueError, match="num_classes is 5, but"):
    prepare(photos, killed, num_classes=5)  # the pieces are of something else
  assert len(contents(killed.with_name(".set.partial"))) == pieces
  with monkeypatch.context() as patch:
    if strict:  # known rejects end it before it reads an image
      patch.setattr(set_writer, "_make_piece", pytest.fail)
    with pytest.raises(ValueError, match=rf"images in .*photos: {count} \("):
      prepare(photos, killed, strict=strict)
  assert {*killed.parent.iterdir()} <= {photos}
  link = tmp_path / "link"
  link.symlink_to(tmp_path / "empty")
  with pytest.raises(ValueError, match="link is a link or a mount point"):
    prepare(photos, link)


def test_a_full_disk_keeps_what_was_finished(
  photos, whole, tmp_path, monkeypatch
):
  path = tmp_path / "set"
  with monkeypatch.context() as patch:
    full = RuntimeError("No space left")  # ArrayRecord's
    kill_at(patch, record_writer.RecordWriter, "_serialize", 6, full)
    with pytest.raises(OSError, match="cannot write .*record-00002: No space"):
      prepare(photos, path, 0.25)
  left = contents(tmp_path / ".set.partial")
  assert {"piece-00000.json", "piece-00001.json"} < left.keys()
  assert not any(name.endswith(".tmp") for name in left)
  assert contents(prepare(photos, path, 0.25)) == whole


def test_a_second_preparation_says_whom_it_waits_for(
  photos, killed, tmp_path, monkeypatch, capfd
):
  theirs = prepare(photos, tmp_path / "theirs")
  held = (killed.parent / ".set.partial" / "lock").open("a+")
  held.truncate(0)
  held.write("process 7 on another\n")
  held.flush()
  fcntl.flock(held, fcntl.LOCK_EX)
  take = fcntl.flock

  def flock(file, how):
    if how == fcntl.LOCK_EX:  # it would wait now
      theirs.rename(killed)
      held.close()
    take(file, how)

  monkeypatch.setattr(fcntl, "flock", flock)
  monkeypatch.setattr(set_writer, "write_set", None)  # would fail if called
  assert prepare(photos, killed) == killed
  found = capfd.readouterr().err
  assert "waiting for process 7 on another, which prepares " in found


def test_many_may_wait_for_one_preparation(tmp_path):
  """Each finds the set, and removes the folder that the others wait for."""
  target = tmp_path / "set"

  def enter(_):
    with partial_set.open_partial(target) as work:
      work.begin({})

  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(enter, range(160)))
  assert not list(tmp_path.iterdir())


def test_what_is_not_ours_stays(photos, tmp_path):
  mine = tmp_path / ".set.partial"
  mine.mkdir()
  (mine / "thesis.txt").write_text("important")
  with pytest.raises(ValueError, match=r"\.set\.partial.*'thesis\.txt'"):
    prepare(photos, tmp_path / "set")
  assert (mine / "thesis.txt").read_text() == "important"


def test_the_faster_machine_wins(photos, tmp_path, monkeypatch):
  theirs, path = prepare(photos, tmp_path / "theirs"), tmp_path / "set"
  write, before = set_writer.write_set, contents(theirs)

  def write_slowly(*args):
    write(*args)
    theirs.rename(path)  # meanwhile, a machine that sees no lock

  monkeypatch.setattr(set_writer, "write_set", write_slowly)
  assert prepare(photos, path) == path
  assert contents(path) == before
  assert not (tmp_path / ".set.partial").exists()


def in_pieces():
  set_writer.PIECE_IMAGES = 3


def in_pieces_until_the_third():
  in_pieces()
  die = lambda: os.kill(os.getpid(), signal.SIGKILL)
  original, calls = record_writer.RecordWriter._serialize, itertools.count()
  record_writer.RecordWriter._serialize = lambda *args: (
    original(*args) if next(calls) < 4 else die()
  )


def test_the_command_and_sigkill(photos, whole, tmp_path):
  flags = (f"--source={photos}", f"--output={tmp_path / 'set'}")
  flags = (*flags, "--resolution=16", "--holdout=0.25")
  said = run_command(
    "prepare", *flags, code=-signal.SIGKILL, before=in_pieces_until_the_third
  )
  assert f"preparing 23 images of 16x16x3 in {tmp_path}/set: at most" in said
  left = contents(tmp_path / ".set.partial")
  assert "piece-00001.json" in left and "piece-00002.json" not in left
  assert any(name.endswith(".tmp") for name in left)
  said = run_command("prepare", *flags, before=in_pieces)
  for line in (
    "images:         18 of 16x16x3",
    f"contact sheet:  {tmp_path}/set/contact_sheet.png",
    f"all that are skipped: {tmp_path}/set/rejected.jsonl",
    "5 skipped: cannot identify the image's format",
    "3 not read: not an image",
    "hold-out:       4 images, never trained on",
  ):
    assert f"{line}\n" in said
  assert contents(tmp_path / "set") == whole
  assert not (tmp_path / ".set.partial").exists()


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
  (tmp_path / "lock").symlink_to(tmp_path / "missing" / "lock")
  (tmp_path / "deleted").mkdir()
  monkeypatch.chdir(tmp_path / "deleted")
  (tmp_path / "deleted").rmdir()
  for path in (tmp_path / "lock", Path("set", "lock"), Path("/dev/null/lock")):
    with pytest.raises((FileNotFoundError, FileExistsError)):
      with folder_lock.locked(path, print):
        pass
