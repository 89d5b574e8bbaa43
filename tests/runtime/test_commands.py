"""What holds for every command."""

import subprocess
import sys
from pathlib import Path

import pytest

import msggan_jax

COMMANDS = sorted(
  path.stem
  for path in Path(msggan_jax.__file__).parent.glob("*.py")
  if "cli.run(main)" in path.read_text()
)


def run(command, *arguments):
  return subprocess.run(
    [sys.executable, "-m", f"msggan_jax.{command}", *arguments],
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_an_unknown_flag(command):
  done = run(command, "--help")
  assert done.returncode == 0, done.stderr
  assert "--" in done.stdout
  done = run(command, "--no_such_flag")
  assert done.returncode == 2
  assert done.stdout == ""
  assert len(done.stderr.splitlines()) == 1


def test_the_package_lists_its_commands():
  done = subprocess.run(
    [sys.executable, "-m", "msggan_jax"], capture_output=True, text=True
  )
  lines = done.stdout.splitlines()[1:]
  assert [line.split()[0] for line in lines] == COMMANDS
  assert all(line.endswith(("?", ".")) for line in lines)


def test_no_test_imports_a_command():
  # Flags belong to a process: two commands in one would both define --config.
  assert not {f"msggan_jax.{command}" for command in COMMANDS} & set(
    sys.modules
  )
