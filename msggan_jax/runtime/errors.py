"""Errors in one sentence, and the codes that commands end with."""

import errno
import os
import sys
import traceback
from typing import NoReturn

EXIT_FAILURE = 1  # launch scripts repeat the command
EXIT_HOPELESS = 2  # bad input: the same command would end the same way
EXIT_STOPPED = 75  # EX_TEMPFAIL: the state is saved, the same command resumes

# Bad input: a path that is missing, forbidden or of another kind. Other errors
# of the system may be gone the next time; a full disk stays full.
_HOPELESS = (
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


class Ending(Exception):
  """A run's end that all its processes raise, with an exit code."""

  code = EXIT_HOPELESS


def exit_code(error: Exception) -> int:
  """Return the code that a command ends with."""
  if isinstance(error, Ending):
    return error.code
  if isinstance(error, OSError):
    cause: BaseException = error
    while cause.__cause__:  # of our own errors
      cause = cause.__cause__
    number = getattr(cause, "errno", None)
    listed = isinstance(cause, _HOPELESS) or number in _HOPELESS_CODES
    hopeless = listed or _is_full_disk(error)
  else:
    hopeless = describe(error) is not None
  return EXIT_HOPELESS if hopeless else EXIT_FAILURE


def show(error: Exception) -> int:
  """Print an error's sentence, or a bug's traceback; return the exit code."""
  if sentence := describe(error):
    print(f"error: {sentence}", file=sys.stderr)
  else:
    traceback.print_exception(error)
  sys.stderr.flush()
  return exit_code(error)


def describe(error: Exception) -> str | None:
  """Return an error's sentence; None for a bug, which needs its traceback."""
  if isinstance(error, OSError):
    named = isinstance(error.filename, str) and error.strerror
    sentence = f"{error.filename}: {error.strerror}" if named else str(error)
    room = "; make room, then give the same command again"
    return sentence + (room if _is_full_disk(error) else "")
  if isinstance(error, ValueError | Ending):
    return str(error)
  if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
    return (
      f"not enough memory ({first_line(error)}); choose smaller batches, such "
      "as config.micro_batch_size, or fewer pixels"
    )
  if isinstance(error, RuntimeError | AssertionError):
    return _platform_problem()
  return None


def _platform_problem() -> str | None:
  """Return a sentence on JAX_PLATFORMS if JAX cannot start, else None."""
  platforms = os.environ.get("JAX_PLATFORMS")
  if not platforms:
    return None
  import jax

  try:
    jax.devices()
  except (RuntimeError, AssertionError):  # the second for cuda without a GPU
    return (
      f"JAX_PLATFORMS={platforms}: JAX finds no such device here; unset it to "
      "use what there is"
    )
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


def fail(sentence: str) -> NoReturn:
  """Print the sentence of bad input and end the process."""
  sys.exit(show(ValueError(sentence)))
