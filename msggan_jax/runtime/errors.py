"""Errors in one sentence, and the codes that commands end with."""

import errno
import os
import sys
from typing import NoReturn

from msggan_jax.runtime import machine

EXIT_FAILURE = 1  # launch scripts repeat the command
EXIT_HOPELESS = 2  # bad input: the same command would end the same way

# Bad input: a path that is missing, forbidden or of another kind. Other errors
# of the system may be gone the next time; a full disk stays full.
_HOPELESS = (
  ValueError,
  FileNotFoundError,
  FileExistsError,
  PermissionError,
  IsADirectoryError,
  NotADirectoryError,
)
_HOPELESS_CODES = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # XLA's, for a device
# By their texts: libraries wrap them in errors of their own.
_FULL = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


def counted(number: int, thing: str) -> str:
  """Return "1 image" or "2,000 images"."""
  return f"{number:,} {thing}{'' if number == 1 else 's'}"


def is_hopeless(error: Exception) -> bool:
  """Return whether the same command would fail again: it is bad input."""
  if isinstance(error, OSError):
    listed = isinstance(error, _HOPELESS) or error.errno in _HOPELESS_CODES
    return listed or _is_full_disk(error)
  return describe(error) is not None


def describe(error: Exception) -> str | None:
  """Return an error's sentence; None for a bug, which needs its traceback."""
  if isinstance(error, OSError):
    named = isinstance(error.filename, str) and error.strerror
    sentence = f"{error.filename}: {error.strerror}" if named else str(error)
    room = "; make room, then give the same command again"
    return sentence + (room if _is_full_disk(error) else "")
  if isinstance(error, ValueError):
    return str(error)
  if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
    return (
      f"not enough memory ({first_line(error)}); choose smaller batches, such "
      "as config.micro_batch_size, or fewer pixels"
    )
  if isinstance(error, RuntimeError | AssertionError):
    return machine.platform_problem()
  return None


def reason(error: BaseException) -> str:
  """Return why a library has failed: its error's first line, or a full disk."""
  around: BaseException | None = error
  while around:
    for text in _FULL:
      if text in str(around):
        return text
    around = around.__context__
  return first_line(error)


def _is_full_disk(error: Exception) -> bool:
  return isinstance(error, OSError) and reason(error) in _FULL


def first_line(error: BaseException) -> str:
  """Return the first line of a library's error, for a sentence of ours."""
  return (str(error).strip() or repr(error)).splitlines()[0][:300]


def fail(sentence: str, code: int = EXIT_HOPELESS) -> NoReturn:
  """Print the sentence and end the process."""
  print(f"error: {sentence}", file=sys.stderr)
  sys.exit(code)
