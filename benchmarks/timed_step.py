"""Time our training step in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.section import ROOT


def time_step(
  config: str,
  fields: Mapping[str, Any],
  *,
  steps: int,
  devices: int | None = 1,
) -> dict[str, Any]:
  """Return the numbers of `msggan_jax.benchmark` on so many CPU devices.

  None: on all devices that JAX finds. The configuration's path is from the
  repository's root.
  """
  command = [sys.executable, "-m", "msggan_jax.benchmark"]
  command += [f"--config={config}", f"--steps={steps}", "--json"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  cpu = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
  environment = os.environ | (cpu if devices else {})
  result = subprocess.run(
    command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment
  )
  return json.loads(result.stdout)
