"""Names and reasons of images that cannot be used, fit for people and JSON."""

import re
import struct

_MAX_CHARACTERS = 200  # of a reason; files can hold endless words of their own
# What a decoder stumbles over in a damaged file, with no words for people.
_ACCIDENTS = (
  ArithmeticError,
  AssertionError,
  AttributeError,
  LookupError,
  MemoryError,
  RecursionError,
  TypeError,
  struct.error,
)


def printable_name(name: str) -> str:
  r"""Return a file's name as text: bytes that are not UTF-8 become \xNN."""
  data = name.encode("utf-8", "surrogateescape")
  return data.decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
  r"""Return text with line breaks and control characters as \n and the like."""
  return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def reason(error: Exception) -> str:
  """Say in one line why an image cannot be used.

  Args:
    error: What its reader raised.

  Returns:
    The same words for the same file: no addresses in memory, no paths.
  """
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = str(error)
  if isinstance(error, _ACCIDENTS):
    text = f"damaged: {type(error).__name__} {text}"
  text = re.sub(r" at 0x[0-9a-fA-F]+", "", text or type(error).__name__)
  return one_line(" ".join(text.split()))[:_MAX_CHARACTERS]
