"""Clean shutdown on SIGTERM, SIGINT and a cloud's preemption notice."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Stopped(Exception):
  """The run has stopped on request, and its state is saved."""

  def __init__(self, step: int):
    super().__init__(f"stopped at step {step}, whose state is saved")


class Preemption:
  """Detects requests to stop; a second SIGINT exits at once."""

  def __init__(self):
    """Install the signal handlers; with several processes JAX owns SIGTERM."""
    self._asked = False
    self._calls = 0
    self._reached = False
    self._interrupted = False
    self._alone = jax.process_count() == 1
    numbers = [signal.SIGINT, *([signal.SIGTERM] if self._alone else [])]
    if threading.current_thread() is not threading.main_thread():
      numbers = []  # Python delivers signals to the main thread only
    self._before = {
      number: signal.signal(number, self._notice) for number in numbers
    }

  def reached(self) -> bool:
    """Return whether to stop now.

    All processes call it equally often, such as after each step and each batch
    of an evaluation, and get the same answers. Once true, it stays true.
    """
    if self._alone:
      return self._asked
    # Not the step's number: evaluations ask between steps. Nobody else may
    # report to this manager, which waits for one number between those of all
    # calls.
    self._calls += 1
    self._reached |= multihost_utils.reached_preemption_sync_point(self._calls)
    return self._reached

  def check(self, saved_step: int) -> None:
    """Raise Stopped at a saved step if it is time; a call of all processes."""
    if self.reached():
      raise Stopped(saved_step)

  def __enter__(self) -> "Preemption":
    return self

  def __exit__(self, *exc_info) -> None:
    """Restore the previous signal handlers."""
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _notice(self, number: int, frame: FrameType | None) -> None:
    del frame
    if number == signal.SIGINT:
      if self._interrupted:
        os._exit(128 + number)
      self._interrupted = True
      if not self._alone:
        # JAX forwards this signal to the other processes.
        os.kill(os.getpid(), signal.SIGTERM)
    self._asked = True
