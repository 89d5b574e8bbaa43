"""The command `evaluate` with an extractor that needs no weights."""

import subprocess
import sys

EXTRACTOR = "tests.golden_metrics.mean_colors:mean_colors"


def evaluate_command(*arguments, code=0, program=("-m", "msggan_jax.evaluate")):
  command = [sys.executable, *program, "--json"]
  command += [*arguments, f"--extractor={EXTRACTOR}"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == code, done.stderr
  return done
