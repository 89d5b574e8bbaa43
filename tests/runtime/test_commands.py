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


# For each command and the flags it needs: wrong flags, and a part of the error.
WRONG = {
  "evaluate": (
    ("", "either --workdir or --reals"),
    ("--reals=a", "belong together"),
    ("--workdir=nowhere", "not the workdir of a run"),
    ("--reals=a --fakes=b --step=1", "go with --workdir"),
  ),
  "export --workdir=none --output=none.onnx": (
    ("--variant=psi", "--variant: safetensors has only weights"),
    ("--discriminator --format=stablehlo", "only --format=safetensors"),
    ("", "the formats' endings are .safetensors, .stablehlo, .onnx"),
  ),
  "plan --config=configs/demo.py": (
    ("--levels", "--levels needs --topology or --gpu"),
  ),
  "sample": (
    ("", "--workdir is missing; see --help"),
    ("--workdir=none --draws=b", "--draws=b: give a whole number"),
    ("--workdir=none --truncation_psi=b", "--truncation_psi=b: give a number"),
  ),
  "sample --workdir=none --output=none": (
    ("--mode=video", "--mode=video"),
    ("--psis=1,2", "--psis: --mode=grid has no use for it, only truncation"),
    ("--mode=noise --image=a.png", "--image: --mode=noise has no use"),
    ("--mode=truncation --psis=1,a", "--psis=1,a: give numbers"),
    ("--mode=truncation --psis=nan", "--psis=nan: give numbers"),
    ("--mode=style_mix --fine_seeds=5-1", "'5-1' has 0 numbers"),
    (f"--seeds={2**32}", "the largest number is 4294967295"),
    ("--seeds=0-4294967295", "has 4,294,967,296 numbers; choose 1 to"),
    (
      "--mode=project --image=a.png --truncation_psi=0.5",
      "--truncation_psi: --mode=project has no use for it",
    ),
    ("--mode=project", "--mode=project needs --image=FILE"),
    ("--mode=training --ema_kimg=5", "--ema_kimg: --mode=training has"),
    ("--mode=nearest --scales=8", "--scales: --mode=nearest has no use"),
    ("--batch_size=0", "--batch_size=0"),
    ("--mode=multiscale --step=last", "--step=last: give a number"),
  ),
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_flags_end_in_one_sentence_before_any_work(command):
  for flags, sentence in WRONG[command]:
    said = run_command(*command.split(), *flags.split(), code=2)
    assert said.startswith("error: ") and said.count("\n") == 1
    assert sentence in said


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
