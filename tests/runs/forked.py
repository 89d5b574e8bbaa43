"""Commands in processes that are forked after all imports.

A start then costs the run's own work, and not seconds of imports. The fork is
made by a server process that has no other thread and no JAX backend.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_IMPORTS = [
  "msggan_jax.sampling.grids",
  "msggan_jax.training.loop",
  "orbax.checkpoint",
  "tests.runs.forked",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTS)


class Forked:
  """A command; has what `subprocess.Popen` has of pid, poll and wait."""

  def __init__(
    self,
    flags: list[str],
    environment: dict[str, str],
    log: Path,
    command: str = "main",
    before: Callable[[], None] | None = None,
  ):
    """Start a command of the package, after a function called there."""
    self._process = _context.Process(
      target=_run, args=(flags, environment, str(log), command, before)
    )
    self._process.start()
    self.pid = self._process.pid

  def poll(self) -> int | None:
    """Return the exit code, negative for a signal; None: it runs."""
    return self._process.exitcode

  @property
  def returncode(self) -> int | None:
    return self.poll()

  def wait(self, timeout: float | None = None) -> int:
    self._process.join(timeout)
    if (code := self.poll()) is None:
      raise subprocess.TimeoutExpired("msggan_jax.main", timeout or 0)
    return code

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)


def _run(
  flags: list[str],
  environment: dict[str, str],
  log: str,
  command: str,
  before: Callable[[], None] | None,
) -> None:
  """Be `python -m msggan_jax.COMMAND` with these flags."""
  import jax

  from msggan_jax.runtime import cli

  descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for stream in (1, 2):
    os.dup2(descriptor, stream)
  module = importlib.import_module(f"msggan_jax.{command}")
  sys.argv = [module.__name__, *flags]
  for name, value in environment.items():
    os.environ[name] = value
    if name.startswith("JAX_"):  # JAX has read them at its import
      jax.config.update(name.lower(), _value(value))
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler if number == 2 else 0)
  if before:
    before()
  cli.run(module.main)


def _value(text: str) -> object:
  if text in ("true", "false"):
    return text == "true"
  for kind in (int, float):
    with contextlib.suppress(ValueError):
      return kind(text)
  return text
