"""Files that are complete, or not there at all, and damaged rows."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from msggan_jax.runtime import files, jsonl


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
  with pytest.raises(FileNotFoundError) as caught:  # not the temporary one
    files.write(nowhere := tmp_path / "nowhere" / "a", "")
  assert caught.value.filename == str(nowhere)


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


def test_damaged_rows_are_skipped(tmp_path):
  path = tmp_path / "stats.jsonl"
  assert jsonl.read(path) == []
  path.write_bytes(
    b'{"step": 1}\n[[[\n\xff\xfe\x00\n"text"\n{"step": 2}\n{"step": 3, "d_l'
  )
  assert jsonl.read(path) == [{"step": 1}, {"step": 2}]
  assert [row is None for row in jsonl.scan(path)].count(True) == 4
  with path.open("a") as file:
    file.write('\n{"step": "text"}\n{"kimg": 1.0}\n')  # edited by hand
  assert [*jsonl.read_steps(path)] == [{"step": 1}, {"step": 2}]
  jsonl.drop_after(path, 1)
  assert path.read_bytes() == b'{"step": 1}\n'
  path.write_bytes(b'{"step": 1}\n{"step": 2}')  # whole, without its end
  jsonl.drop_after(path, 2)
  assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
  path.write_bytes(b'{"step": 1}\n{"step": 2, "d_l')
  jsonl.append(path, {"step": 2})
  jsonl.append(path, {"step": 3})
  assert [row["step"] for row in jsonl.read(path)] == [1, 2, 3]
  path.write_text("[" * 100_000 + "\n")  # nested too deep
  assert jsonl.read(path) == []


WRITE = """
import threading
from pathlib import Path
from msggan_jax.runtime import files

threading.Thread(target=threading.Event().wait).start()  # it waits for none
with files.replacing(Path("a")) as temporary:
  temporary.mkdir()
  (temporary / "b").write_text("")
  print("written")
  {send}
"""
IN_A_CALLBACK = """
import gc

gc.callbacks.append(lambda *_: {send})  # an exception would be swallowed
gc.collect()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [WRITE, IN_A_CALLBACK])
def test_a_signal_ends_a_command_without_a_traceback(tmp_path, program, number):
  begin = f"""if True:
    import signal
    from msggan_jax.runtime import files

    # A shell's background commands ignore SIGINT.
    signal.signal({number.value}, signal.SIG_DFL)
    files.end_at_signals()
  """
  send = f"__import__('signal').raise_signal({number.value})"
  ended = subprocess.run(
    [sys.executable, "-c", begin + program.format(send=send)],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": os.getcwd()},
    capture_output=True,
    text=True,
  )
  assert (ended.returncode, ended.stderr) == (128 + number, "")
  assert ended.stdout == ("written\n" if program == WRITE else "")
  assert not os.listdir(tmp_path)
