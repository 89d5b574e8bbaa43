"""Types of configuration fields: what they accept, and how they say it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from msggan_jax.algorithm.schedules import SAME
from msggan_jax.models.pyramid import SCALE_GROUPS

_ENDLESS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Field:
  """One field of a configuration.

  Attributes:
    default: The value of the paper's MSG-ProGAN, or ours.
    meaning: One line; durations are in kimg, thousands of real images shown.
    shapes_networks: Whether the networks' parameters or outputs depend on it.
      Such a field is checked in files of others, where it must not make a
      network of unbounded size.
    resumable: Whether a resumed run may have another value.
  """

  default: Any
  meaning: str
  shapes_networks: bool = False
  resumable: bool = False

  def expected(self) -> str:
    """Return what a value must be, to follow "choose"."""
    raise NotImplementedError

  def accepts(self, value: Any) -> bool:
    """Return whether a value is possible."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Choice(Field):
  """One of some names."""

  choices: tuple[str, ...] = ()

  def expected(self) -> str:
    """See `Field`."""
    return f"one of {', '.join(self.choices)}"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return isinstance(value, str) and value in self.choices


@dataclasses.dataclass(frozen=True)
class Switch(Field):
  """True or False."""

  def expected(self) -> str:
    """See `Field`."""
    return "True or False"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Text(Field):
  """Any text."""

  def expected(self) -> str:
    """See `Field`."""
    return "a text"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return isinstance(value, str)


@dataclasses.dataclass(frozen=True)
class Count(Field):
  """A whole number within bounds, both included."""

  low: int = 0
  high: int = _ENDLESS

  def expected(self) -> str:
    """See `Field`."""
    if self.high == _ENDLESS:
      return f"a whole number, {self.low} or more"
    return f"a whole number from {self.low} to {self.high}"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return is_count(value) and self.low <= value <= self.high


@dataclasses.dataclass(frozen=True)
class Batch(Count):
  """A count; commands replace "auto" by one before any check."""

  def expected(self) -> str:
    """See `Field`."""
    return f"{super().expected()}, or auto on the command line"


@dataclasses.dataclass(frozen=True)
class Number(Field):
  """A finite number within bounds.

  Attributes:
    low: The smallest value.
    high: The largest value.
    above_low: Whether `low` itself is excluded.
  """

  low: float = 0.0
  high: float = math.inf
  above_low: bool = False

  def expected(self) -> str:
    """See `Field`."""
    if self.low == -math.inf:
      return "a number"
    if self.high < math.inf:
      return f"a number from {self.low:g} to {self.high:g}"
    if self.above_low:
      return f"a number above {self.low:g}"
    return f"a number, {self.low:g} or more"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    if not (is_count(value) or isinstance(value, float)):
      return False
    try:
      finite = math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
      return False
    low_is_met = value > self.low if self.above_low else value >= self.low
    return finite and low_is_met and value <= self.high


@dataclasses.dataclass(frozen=True)
class Scales(Field):
  """A name of the paper's Table 4, or a list of resolutions."""

  def expected(self) -> str:
    """See `Field`."""
    return f"one of {', '.join(SCALE_GROUPS)} or a list of resolutions"

  def accepts(self, value: Any) -> bool:
    """See `Field`; `connected_scales` checks the names and resolutions."""
    listed = value if isinstance(value, Sequence) else [value]
    if isinstance(value, str):
      listed = [value]
    return all(isinstance(scale, str) or is_count(scale) for scale in listed)


@dataclasses.dataclass(frozen=True)
class End(Number):
  """The end value of a schedule: a number, or the start value."""

  def expected(self) -> str:
    """See `Field`."""
    return f"same, or {super().expected()}"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return (isinstance(value, str) and value == SAME) or super().accepts(value)


@dataclasses.dataclass(frozen=True)
class Weights(Field):
  """A name of a rule, or a list of numbers."""

  choices: tuple[str, ...] = ()

  def expected(self) -> str:
    """See `Field`."""
    return f"one of {', '.join(self.choices)} or a list of numbers"

  def accepts(self, value: Any) -> bool:
    """See `Field`; the penalty checks the list's length."""
    if isinstance(value, str):
      return value in self.choices
    number = Number(None, "")
    return isinstance(value, Sequence) and all(map(number.accepts, value))


@dataclasses.dataclass(frozen=True)
class Remat(Field):
  """A resolution, 0 or "auto"."""

  def expected(self) -> str:
    """See `Field`."""
    return "a resolution, 0 or auto"

  def accepts(self, value: Any) -> bool:
    """See `Field`."""
    return value == "auto" or (is_count(value) and value >= 0)


def is_count(value: Any) -> bool:
  """Return whether a value is an integer and no bool."""
  return isinstance(value, int) and not isinstance(value, bool)
