"""What commands share: --config, --json, ~, and bad input in one sentence."""

import errno
import functools
import json
import os
import sys

import pytest
from absl import flags

from msggan_jax.checkpoints import trained
from msggan_jax.config import saved
from msggan_jax.runtime import cli, errors
from tests.commands import run_command
from tests.conftest import CONFIGS, load_config

CIFAR10 = (CONFIGS / "cifar10.py").read_text()


def test_a_bad_configuration_ends_in_one_sentence(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, text in (
    ("empty", ""),
    ("typo", "get_config ="),
    ("bug", "def get_config():\n  return 1 / 0"),
    ("none", "def get_config():\n  return None"),
    ("mine", f"{CIFAR10}\n\ndef bad(): pass"),
  ):
    (tmp_path / f"{name}.py").write_text(text)
  for argument, override, sentence in (
    ("configs/typo.py", "", "no such file; the package has configs/celebahq"),
    ("empty.py", "", "empty.py defines no get_config"),
    ("typo.py", "", r"SyntaxError: invalid syntax \(typo.py, line 1\)"),
    ("bug.py", "", r"ZeroDivisionError: division by zero \(bug.py, line 2\)"),
    ("none.py", "", "AttributeError: 'NoneType' object"),
    ("configs/demo.py:dogs", "", "choose cats or earth"),
    ("configs/workdir.py", "", "missing 1 required positional argument"),
    (
      "mine.py",
      "--config.dataset.pth=a",
      "field dataset.pth; did you mean dat",
    ),
    ("configs/demo.py", "--noconfig.miror", "field miror; did you mean mirror"),
    ("configs/demo.py", "--config.seed.x=1", "field seed.x"),
    ("configs/demo.py", "-config.foo.bar", "has no field foo.bar"),
  ):
    monkeypatch.setattr(sys, "argv", ["main", override])
    with pytest.raises(ValueError, match=sentence) as raised:
      cli._ConfigParser().parse(argument)
    assert "\n" not in str(raised.value)
  monkeypatch.setattr(sys, "argv", ["main", "--config.dataset.path=a"])
  assert cli._ConfigParser().parse("mine.py").dataset.name == "cifar10"


def test_home_is_expanded_in_every_flag_and_field(tmp_path, monkeypatch):
  (tmp_path / "mine.py").write_text(
    f"{CIFAR10}\n\nours = get_config\n\n"
    "def get_config():\n"
    "  config = ours()\n"
    "  config.dataset.path = '~/photos'\n"
    "  config.inception_path = 'a~/b'\n"
    "  return config\n"
  )
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setattr(sys, "argv", ["main"])
  config = cli._ConfigParser().parse(str(tmp_path / "mine.py"))
  assert config.dataset.path == f"{tmp_path}/photos"
  assert config.inception_path == "a~/b"
  for text, expanded in (
    ("--workdir=~/a,~/b", f"--workdir={tmp_path}/a,{tmp_path}/b"),
    ("~", str(tmp_path)),
    ("--source=lmdb:~/c", f"--source=lmdb:{tmp_path}/c"),
    ("--output=a~/b", "--output=a~/b"),
  ):
    assert cli._expanded(text) == expanded
  # An older run's config.json has the path as it was given.
  config = load_config("cifar10")
  config.dataset.path = "~/photos"
  saved.save_config(config, tmp_path)
  assert saved.load_config(tmp_path).dataset.path == f"{tmp_path}/photos"
  assert trained.find("~/run") == tmp_path / "run"


def live_in(folder):
  os.chdir(folder)
  os.environ["HOME"] = str(folder)


def test_the_packages_configuration_is_used_in_any_folder(tmp_path):
  flags = ("--config=configs/image_folder.py", "--config.dataset.path=~/photos")
  before = functools.partial(live_in, tmp_path)
  said = run_command("prepare", *flags, code=2, before=before)
  file = cli.PACKAGE / "configs" / "image_folder.py"
  assert said.splitlines() == [
    f"--config=configs/image_folder.py: not here; using {file}",
    f"error: dataset.path: {tmp_path / 'photos'} does not exist",
  ]


def test_json_is_a_switch_or_a_file(monkeypatch):
  define = flags.DEFINE
  for arguments, target in (
    ([], None),
    (["--json"], cli.STDOUT),
    (["--nojson"], None),
    (["--json=a/b.json"], "a/b.json"),
    (["--json", "rest"], cli.STDOUT),
  ):
    own = flags.FlagValues()
    in_own = functools.partial(define, flag_values=own)
    monkeypatch.setattr(cli.flags, "DEFINE", in_own)
    holder = cli.define_json("Numbers.")
    left = own(["command", *arguments])
    assert holder.value == target
    assert left[1:] == [a for a in arguments if not a.startswith("-")]


def test_steps_are_numbers_or_the_best():
  parsed = [cli.parse_step(text) for text in ("", "7", "best")]
  assert parsed == [None, 7, "best"]
  with pytest.raises(ValueError, match="--step=-1: give a number, or best"):
    cli.parse_step("-1")


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
  handled = []  # signals, in every command
  monkeypatch.setattr(cli.files, "end_at_signals", lambda: handled.append(1))
  wrong = (errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EISDIR)
  wrong += (errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
  full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
  passing = (errno.EIO, errno.ESTALE, errno.EMFILE)
  cases = [(ValueError("b"), 2, "b"), (OSError("b"), 1, "b")]
  for number in (*wrong, *full, *passing):
    text = os.strerror(number)
    sentence = f"a/b: {text}"
    if number in full:
      sentence += "; make room, then give the same command again"
    error = OSError(number, text, "a/b")
    cases.append((error, 1 if number in passing else 2, sentence))
  for error in (RuntimeError("RESOURCE_EXHAUSTED: 9 bytes"), MemoryError("9")):
    remedy = "choose smaller batches, such as config.micro_batch_size, or fewer"
    sentence = f"not enough memory ({error}); {remedy} pixels"
    cases.append((error, 2, sentence))
  for error, code, sentence in cases:

    def main(error=error):
      raise error

    with pytest.raises(SystemExit) as ended:
      cli.run(main)
    assert ended.value.code == code, error
    assert capsys.readouterr().err == f"error: {sentence}\n"
  with pytest.raises(SystemExit, match="1"):
    cli.run(lambda: {}["a"])
  assert capsys.readouterr().err.startswith("Traceback ")  # of a bug
  assert len(handled) == len(cases) + 1


@pytest.mark.parametrize("platform", ["cuda", "gpus"])
def test_a_platform_that_is_not_here(platform):
  flags = ("benchmark", "--config=configs/demo.py")
  said = run_command(*flags, code=errors.EXIT_HOPELESS, JAX_PLATFORMS=platform)
  assert said.startswith(f"error: JAX_PLATFORMS={platform}: ")
  assert said.count("\n") == 1
