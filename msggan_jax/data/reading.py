"""Reads that fail: tried again if it is the disk, else named with a reason.

Names and reasons are fit for people and JSON.
"""

import contextlib
import errno
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from absl import logging

PAUSES_SECS = (0.2, 1.0, 5.0, 20.0)

# Errors of a disk or its network; others are of the file itself.
_PASSING = (
  *(errno.EAGAIN, errno.EIO, errno.ECONNRESET, errno.EHOSTDOWN),
  *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE),
  *(errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT),
)
# ArrayRecord's message, such as "pread() failed: Input/output error".
_SYSTEM_CALL = re.compile(r"\b\w+\(\) failed: ")

_MAX_CHARACTERS = 200  # of a reason; files can hold endless words of their own
# Others, of decoders that stumble over damage, have no words for people.
_WORDED = (OSError, RuntimeError, ValueError)

_LARGE = 2**28  # bytes in memory, which threads have one after the other
_turn = threading.RLock()
_T = TypeVar("_T")


class DiskError(OSError):
  """The disk has failed repeatedly; the file may be good."""


def in_turn(num_bytes: int) -> contextlib.AbstractContextManager[Any]:
  """Return a context that one thread at a time enters, for large data."""
  return _turn if num_bytes > _LARGE else contextlib.nullcontext()


def read(function: Callable[[], _T], what: str) -> _T:
  """Call a function that reads, again after pauses if the disk fails.

  Other errors are raised at once.

  Raises:
    DiskError: If the disk fails each time.
  """
  for pause in (*PAUSES_SECS, None):
    try:
      return function()
    except Exception as error:
      if not _is_of_the_disk(error):
        raise
      reason = reason_of(error)
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


def printable_name(name: str) -> str:
  r"""Return a file's name as text: bytes that are not UTF-8 become \xNN."""
  data = name.encode("utf-8", "surrogateescape")
  return data.decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
  r"""Return text with line breaks and control characters as \n and the like."""
  return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(texts: Iterable[str], most: int = 8, separator: str = ", ") -> str:
  """Return the first of some texts on one line, and ... for the others."""
  texts = list(map(one_line, texts))
  more = ["..."] if len(texts) > most else []
  return separator.join(texts[:most] + more)


def reason_of(error: Exception) -> str:
  """Say in one line why an image cannot be used."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = str(error)
  if not isinstance(error, _WORDED):
    text = f"damaged: {type(error).__name__} {text}"
  text = re.sub(r" at 0x[0-9a-fA-F]+", "", text or type(error).__name__)
  return one_line(" ".join(text.split()))[:_MAX_CHARACTERS]
