"""Time our training step on CPU devices, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def time_step(
  config: str, fields: Mapping[str, Any], *, steps: int, devices: int = 1
) -> dict[str, Any]:
  """Run `msggan_jax.benchmark`.

  Args:
    config: The configuration's path, from the repository's root.
    fields: Fields of the configuration.
    steps: Number of steps to time.
    devices: Number of CPU devices.

  Returns:
    The numbers of `planning.timing.measure_step`.

  Raises:
    subprocess.CalledProcessError: If the process fails.
  """
  command = [sys.executable, "-m", "msggan_jax.benchmark"]
  command += [f"--config={config}", f"--steps={steps}", "--json"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
  }
  result = subprocess.run(
    command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment
  )
  return json.loads(result.stdout)
