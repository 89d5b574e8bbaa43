"""What holds for every command."""

import subprocess
import sys
from pathlib import Path

import pytest

import msggan_jax
from tests.commands import run_command

COMMANDS = sorted(
  path.stem
  for path in Path(msggan_jax.__file__).parent.glob("*.py")
  if "cli.run(main)" in path.read_text()
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_an_unknown_flag(name):
  assert "\n  --" in run_command(name, "--help")
  said = run_command(name, "--no_such_flag", code=2)
  assert said.startswith("error: ") and said.count("\n") == 1


def test_the_package_lists_its_commands():
  done = subprocess.run(
    [sys.executable, "-m", "msggan_jax"], capture_output=True, text=True
  )
  lines = done.stdout.splitlines()[1:]
  assert [line.split()[0] for line in lines] == COMMANDS
  assert all(line.endswith(("?", ".")) for line in lines)


def test_no_test_imports_a_command():
  # Flags belong to a process: two commands in one would both define --config.
  assert not {f"msggan_jax.{name}" for name in COMMANDS} & set(sys.modules)
