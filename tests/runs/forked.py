"""Processes that are forked after all imports.

A start then costs the run's own work, and not seconds of imports. The fork is
made by a server process that has no other thread and no JAX backend.
"""

import atexit
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import socket
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
  """A process; has what `subprocess.Popen` has of pid, poll and wait."""

  def __init__(
    self,
    environment: dict[str, str],
    log: Path,
    function: Callable,
    *args,
    **options,
  ):
    """Call a function of a module's top level, with its prints in a log."""
    self._process = _context.Process(
      target=_call,
      args=(environment, str(log), function, *args),
      kwargs=options,
    )
    self._process.start()
    self.pid = self._process.pid

  def poll(self) -> int | None:
    """Return the exit code, negative for a signal; None: it runs."""
    return self._process.exitcode

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


def command(
  name: str, *flags: str, before: Callable[[], None] | None = None
) -> None:
  """Be `python -m msggan_jax.NAME` with these flags, after calling `before`."""
  from msggan_jax.runtime import cli

  if before:
    before()
  module = importlib.import_module(f"msggan_jax.{name}")
  sys.argv = [module.__name__, *flags]
  cli.run(module.main)


def finish(started: list, timeout: float | None = 600) -> list[int]:
  """Wait for processes, but not for one that hangs; return their exit codes."""
  with contextlib.ExitStack() as stack:
    for process in started:
      stack.callback(process.wait)
      stack.callback(process.kill)
    return [process.wait(timeout) for process in started]


def free_port() -> int:
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def run_in_all(
  function: Callable[[Path], None], folder: Path, count: int
) -> None:
  """Call a function of a folder in all processes of a job, of a device each."""
  address = f"127.0.0.1:{free_port()}"
  environment = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
  logs = [folder / f"process-{i}.log" for i in range(count)]
  started = [
    Forked(environment, log, _member, function, folder, address, count, i)
    for i, log in enumerate(logs)
  ]
  codes = finish(started)
  assert set(codes) == {0}, (codes, *(log.read_text() for log in logs))


def _member(function: Callable, folder: Path, *job: str | int) -> None:
  from msggan_jax.runtime import processes

  processes.join(*job)
  with processes.ending_together():
    function(folder)


def _call(
  environment: dict[str, str], log: str, function: Callable, *args, **options
) -> None:
  import jax

  descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  for stream in (1, 2):
    os.dup2(descriptor, stream)
  for name, value in environment.items():
    os.environ[name] = value
    if name.startswith("JAX_"):  # JAX has read them at its import
      jax.config.update(name.lower(), _value(value))
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler if number == 2 else 0)
  try:
    function(*args, **options)
  finally:
    # Only preparing TFDS sets needs it.
    assert "tensorflow" not in sys.modules
    # As at Python's end, which a fork does not reach: JAX waits for the other
    # processes of a job.
    atexit._run_exitfuncs()


def _value(text: str) -> object:
  try:
    return json.loads(text)
  except ValueError:
    return text
