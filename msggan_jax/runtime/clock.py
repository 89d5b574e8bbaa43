"""Where a run's wall time went, the sessions before a restart included."""

import collections
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PREFIX = "secs/"
_WRITTEN_AT = "unix_secs"


class TimeRecord:
  """Seconds by what they were spent on; each second counts once.

  "start" is what comes before the first step, but for "compile", the wait for
  the compiler, and the first pictures;
  "data" is the wait for batches, "step" what the loop spends on nothing else.
  "lost" lies behind the row that a session goes on from: steps that are taken
  again, and the time in which nothing ran; after a rollback, too. Of a session
  that ended before its first row nothing is known.
  """

  def __init__(self, began: float):
    """Start to count.

    Args:
      began: When the session did, as `time.time` has it.
    """
    self._secs = collections.Counter(start=time.time() - began)
    self._what = "start"
    self._since = time.monotonic()

  def switch_to(self, what: str) -> None:
    """Count the time from now on as spent on this."""
    now = time.monotonic()
    self._secs[self._what] += now - self._since
    self._what, self._since = what, now

  @contextlib.contextmanager
  def during(self, what: str) -> Iterator[None]:
    """Count the time within the block as spent on this."""
    before = self._what
    self.switch_to(what)
    try:
      yield
    finally:
      self.switch_to(before)

  @property
  def secs(self) -> dict[str, float]:
    """Return the seconds so far, by what they were spent on."""
    self.switch_to(self._what)
    return dict(self._secs)

  def as_row(self) -> dict[str, float]:
    """Return what a row of `stats.jsonl` says of the time."""
    row = {_PREFIX + what: round(x, 3) for what, x in self.secs.items()}
    return row | {_WRITTEN_AT: round(time.time(), 3)}

  def resume(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
    """Add the sessions before this one.

    Args:
      rows: Of `stats.jsonl`, those of lost steps included.
      step: That this session goes on from.
    """
    rows = [row for row in rows if _WRITTEN_AT in row]
    if not rows:
      return
    run_began = rows[-1][_WRITTEN_AT] - sum(_secs_of(rows[-1]).values())
    before = _newest(rows, step)
    lost = time.time() - run_began - sum(self.secs.values())
    before["lost"] += lost - sum(before.values())
    self._secs.update(before)

  def rewind(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
    """Count as lost what was spent since the newest row up to a step."""
    before = _newest(rows, step)
    before["lost"] += sum(self.secs.values()) - sum(before.values())
    self._secs = before

  def describe(self) -> str:
    """Say in a line where the time went, the largest part first."""
    secs = sorted(self.secs.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{what} {duration(x)}" for what, x in secs if x >= 0.5)
    return f"{duration(sum(x for _, x in secs))} in all: {parts}"


def duration(secs: float) -> str:
  """Say a time as people do, such as 2h 05m or 3m 20s."""
  minutes, secs = divmod(round(secs), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}h {minutes:02d}m"
  return f"{minutes}m {secs:02d}s" if minutes else f"{secs}s"


def _newest(
  rows: Sequence[Mapping[str, Any]], step: int
) -> collections.Counter:
  """Return the seconds of the newest row up to a step."""
  kept = [row for row in rows if row["step"] <= step]
  return collections.Counter(_secs_of(kept[-1]) if kept else {})


def _secs_of(row: Mapping[str, Any]) -> dict[str, float]:
  return {
    name.removeprefix(_PREFIX): value
    for name, value in row.items()
    if name.startswith(_PREFIX)
  }
