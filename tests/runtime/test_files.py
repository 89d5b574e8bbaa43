"""Files that are complete, or not there at all."""

import errno
import os

import pytest

from msggan_jax.runtime import files


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
  path = tmp_path / "a.json"
  files.write(path, "old")
  files.write(path, b"new")
  for error in (ValueError("a"), OSError(errno.ENOSPC, "full")):
    with pytest.raises(type(error)) as caught:
      with files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert getattr(caught.value, "filename", str(path)) == str(path)
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_completely_or_not_at_all(tmp_path, monkeypatch):
  synced = []
  monkeypatch.setattr(files.os, "fsync", lambda fd: synced.append(fd))
  for fails in (True, False):
    try:
      with files.replacing(tmp_path / "a") as temporary:
        (temporary / "b").mkdir(parents=True)
        (temporary / "b" / "c").write_text("")
        assert not fails
    except AssertionError:
      assert not os.listdir(tmp_path)
  assert (tmp_path / "a/b/c").is_file() and os.listdir(tmp_path) == ["a"]
  assert len(synced) == 4  # a, b, c, and the folder of a
