"""Run a function of a test module in several processes that form a job."""

import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SECS = 600  # the watchdog's: a job that takes longer hangs


def free_port() -> int:
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def run_in_all(
  function: Callable[[Path], None], folder: Path, count: int = 2
) -> list[str]:
  """Call a function in all processes of a job; fail if one fails or hangs.

  Args:
    function: Of a module of the tests, at its top level.
    folder: The function's argument, and the place of the logs.
    count: Number of processes, of one device each.

  Returns:
    The processes' outputs.
  """
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
  }
  path = Path(function.__code__.co_filename).relative_to(Path.cwd())
  module = ".".join(path.with_suffix("").parts)
  command = [sys.executable, "-m", __name__, module, function.__name__]
  command += [str(folder), f"127.0.0.1:{free_port()}"]
  logs = [folder / f"process-{i}.log" for i in range(count)]
  started = []
  for i, log in enumerate(logs):
    with log.open("w") as output:
      started.append(
        subprocess.Popen(
          [*command, str(count), str(i)],
          env=environment,
          stdout=output,
          stderr=subprocess.STDOUT,
        )
      )
  deadline = time.monotonic() + SECS
  try:
    codes = [p.wait(max(1, deadline - time.monotonic())) for p in started]
  except subprocess.TimeoutExpired:
    codes = ["hangs"]
  finally:
    for process in started:
      process.kill()
      process.wait()
  outputs = [log.read_text() for log in logs]
  assert set(codes) == {0}, (codes, *outputs)
  return outputs


def main(module: str, name: str, folder: str, *job: str) -> None:
  from msggan_jax.runtime import processes

  address, count, index = job
  processes.join(address, int(count), int(index))
  with processes.ending_together():
    getattr(importlib.import_module(module), name)(Path(folder))


if __name__ == "__main__":
  main(*sys.argv[1:])
