"""Flags of `sample` that end in one sentence before anything is loaded."""

import subprocess
import sys

import pytest


def run(*flags):
  command = [sys.executable, "-m", "msggan_jax.sample", "--workdir=none"]
  return subprocess.run(
    [*command, "--output=none", *flags],
    capture_output=True,
    text=True,
    check=False,
    timeout=600,
  )


@pytest.mark.parametrize(
  ("flags", "sentence"),
  [
    (["--mode=video"], "--mode=video"),
    (["--psis=1,2"], "--psis: --mode=grid has no use for it, only truncation"),
    (["--mode=noise", "--image=a.png"], "--image: --mode=noise has no use"),
    (["--mode=truncation", "--psis=1,a"], "--psis=1,a: give numbers"),
    (["--mode=truncation", "--psis=nan"], "--psis=nan: give numbers"),
    (["--mode=style_mix", "--fine_seeds=5-1"], "the range '5-1' is empty"),
    (["--mode=project"], "--mode=project needs --image=FILE"),
    (["--mode=training", "--ema_kimg=5"], "--ema_kimg: --mode=training shows"),
    (["--batch_size=0"], "--batch_size=0"),
    (["--mode=multiscale", "--step=last"], "--step=last: give a number"),
  ],
)
def test_bad_flags_end_in_one_sentence(flags, sentence):
  done = run(*flags)
  assert done.returncode == 2, done.stderr
  assert done.stdout == ""
  assert len(done.stderr.splitlines()) == 1
  assert sentence in done.stderr
