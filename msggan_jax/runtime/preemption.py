"""Stopping in good order: SIGTERM, SIGINT, a cloud's notice of preemption."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75  # "temporary failure": start again to go on


class Stopped(Exception):
  """The run was asked to stop and has saved its state."""

  def __init__(self, step: int):
    """Say at which step."""
    super().__init__(f"stopped at step {step}, which is saved")
    self.step = step


class Preemption:
  """Notices that this process is asked to stop; a second SIGINT ends it."""

  def __init__(self):
    """Take over the signals. In several processes JAX has SIGTERM."""
    self._asked = False
    self._calls = 0
    self._interrupted = False
    self._alone = jax.process_count() == 1
    numbers = [signal.SIGINT]
    if self._alone:
      numbers.append(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
      numbers = []  # Python gives signals to the main thread alone.
    self._before = {
      number: signal.signal(number, self._notice) for number in numbers
    }

  def reached(self) -> bool:
    """Tell whether to stop now; each process calls it after each step.

    All processes get the same answers.
    """
    if self._alone:
      return self._asked
    # Not the step's number, which a rollback sets back.
    self._calls += 1
    return multihost_utils.reached_preemption_sync_point(self._calls)

  def __enter__(self) -> "Preemption":
    return self

  def __exit__(self, *exc_info) -> None:
    """Give the signals back."""
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _notice(self, number: int, frame: FrameType | None) -> None:
    del frame
    if number == signal.SIGINT:
      if self._interrupted:
        os._exit(128 + number)
      self._interrupted = True
      if not self._alone:
        # JAX tells the other processes of this signal.
        os.kill(os.getpid(), signal.SIGTERM)
    self._asked = True
