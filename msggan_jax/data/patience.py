"""Reads that a network disk may fail for a moment: tried again."""

import errno
import re
import time
from collections.abc import Callable
from typing import TypeVar

from absl import logging

from msggan_jax.data import rejection

PAUSES_SECS = (0.2, 1.0, 5.0, 20.0)

# Errors of a disk or its network; others are of the file itself.
_PASSING = {
  errno.EAGAIN,
  errno.EIO,
  errno.ECONNRESET,
  errno.EHOSTDOWN,
  errno.EHOSTUNREACH,
  errno.ENETDOWN,
  errno.ENETUNREACH,
  errno.ENFILE,
  errno.EMFILE,
  errno.ENOMEM,
  errno.ESTALE,
  errno.ETIMEDOUT,
}
# ArrayRecord's message, such as "pread() failed: Input/output error".
_SYSTEM_CALL = re.compile(r"\b\w+\(\) failed: ")

_T = TypeVar("_T")


class DiskError(OSError):
  """The disk has failed repeatedly; the file may be good."""


def read(function: Callable[[], _T], what: str) -> _T:
  """Call a function that reads, again after pauses if the disk fails.

  Args:
    function: Reads something; its other errors are raised at once.
    what: Its name, for messages.

  Raises:
    DiskError: If the disk fails each time.
  """
  for pause in (*PAUSES_SECS, None):
    try:
      return function()
    except Exception as error:
      if not _is_of_the_disk(error):
        raise
      reason = rejection.reason(error)
      if pause is None:
        raise DiskError(
          f"{what} cannot be read after {len(PAUSES_SECS) + 1} attempts: "
          f"{reason}; check the disk and give the same command again"
        ) from error
      logging.warning(
        "%s cannot be read (%s); next attempt in %g s", what, reason, pause
      )
    time.sleep(pause)
  raise AssertionError  # the last pass returns or raises


def _is_of_the_disk(error: Exception) -> bool:
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno in _PASSING
  return isinstance(error, RuntimeError) and bool(
    _SYSTEM_CALL.search(str(error))
  )
