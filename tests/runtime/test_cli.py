"""What commands share: --json, and bad input in one sentence."""

import errno
import json
import os
import subprocess
import sys

import pytest
from absl import flags

from msggan_jax.runtime import cli


@pytest.fixture
def values(monkeypatch):
  """Flags of their own, with --json."""
  own, define = flags.FlagValues(), flags.DEFINE
  monkeypatch.setattr(cli.flags, "FLAGS", own)
  monkeypatch.setattr(
    cli.flags,
    "DEFINE",
    lambda *args, **options: define(*args, flag_values=own, **options),
  )
  return own, cli.define_json("Numbers.")


@pytest.mark.parametrize(
  ("arguments", "target"),
  [
    ([], None),
    (["--json"], cli.STDOUT),
    (["--nojson"], None),
    (["--json=a/b.json"], "a/b.json"),
    (["--json", "rest"], cli.STDOUT),
  ],
)
def test_json_is_a_switch_or_a_file(values, arguments, target):
  own, holder = values
  left = own(["command", *arguments])
  assert holder.value == target
  assert left[1:] == [a for a in arguments if not a.startswith("-")]


def test_json_goes_to_stdout_or_to_a_new_file(tmp_path, capsys):
  cli.JsonOutput(None).show({"a": 1}, ["one", "two"])
  assert capsys.readouterr().out == "one\ntwo\n"
  cli.JsonOutput(cli.STDOUT).show({"a": 1}, ["one"])
  assert json.loads(capsys.readouterr().out) == {"a": 1}
  path = tmp_path / "numbers.json"
  output = cli.JsonOutput(str(path))
  assert not path.exists()
  for a in (1, 2):
    output.show({"a": a}, ["one"])
  assert capsys.readouterr().out == "one\none\n"
  rows = [json.loads(row) for row in path.read_text().splitlines()]
  assert rows == [{"a": 1}, {"a": 2}]
  with pytest.raises(ValueError, match="it exists; choose another"):
    cli.JsonOutput(str(path))
  with pytest.raises(ValueError, match="there is no such folder"):
    cli.JsonOutput(str(tmp_path / "none" / "numbers.json"))


def test_wrong_input_is_never_worth_another_attempt(monkeypatch, capsys):
  """Launch scripts repeat a command that ends with code 1."""
  monkeypatch.setattr(cli.app, "run", lambda main, flags_parser: main([]))
  wrong = (errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EISDIR)
  wrong += (errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
  passing = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE)
  errors = [(OSError(n, os.strerror(n), "a"), 2) for n in wrong]
  errors += [(OSError(n, os.strerror(n), "a"), 1) for n in passing]
  for error, code in [*errors, (ValueError("a"), 2), (OSError("a"), 1)]:

    def main(error=error):
      raise error

    with pytest.raises(SystemExit) as ended:
      cli.run(main)
    assert ended.value.code == code, error
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize("platform", ["cuda", "gpus"])
def test_a_platform_that_is_not_here(platform):
  command = (
    "from msggan_jax.runtime import cli; import jax; cli.run(jax.devices)"
  )
  ended = subprocess.run(
    [sys.executable, "-c", command],
    env=os.environ | {"JAX_PLATFORMS": platform},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == cli.EXIT_HOPELESS
  assert ended.stderr.startswith(f"error: JAX_PLATFORMS={platform}: ")
  assert ended.stderr.count("\n") == 1
