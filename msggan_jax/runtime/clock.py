"""Wall time of a run by purpose, including the sessions before a restart."""

import collections
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_PREFIX = "secs/"
_WRITTEN_AT = "unix_secs"


class TimeRecord:
  """Seconds by purpose; each second counts once.

  "start" is everything before the first step except "compile", the wait for
  the compiler, and the first "samples". "data" is the wait for batches, "step"
  the rest of the loop. "lost" is the time after the row that a session resumes
  from: repeated steps and the time in between. A session that ended before
  its first row is not counted.
  """

  def __init__(self, began: float):
    """Start the clock of a session that began at a Unix time, in seconds."""
    self._secs = collections.Counter(start=max(0.0, time.time() - began))
    self._what = "start"
    self._since = time.monotonic()

  def switch_to(self, what: str) -> None:
    """Count the time from now on for this purpose."""
    now = time.monotonic()
    self._secs[self._what] += now - self._since
    self._what, self._since = what, now

  @contextlib.contextmanager
  def during(self, what: str) -> Iterator[None]:
    """Count the block's time for this purpose."""
    before = self._what
    self.switch_to(what)
    try:
      yield
    finally:
      self.switch_to(before)

  @property
  def secs(self) -> dict[str, float]:
    """Return the seconds so far, by purpose."""
    self.switch_to(self._what)
    return dict(self._secs)

  def as_row(self) -> dict[str, float]:
    """Return the fields for a row of `stats.jsonl`."""
    row = {_PREFIX + what: round(x, 3) for what, x in self.secs.items()}
    return row | {_WRITTEN_AT: round(time.time(), 3)}

  def resume(self, rows: Iterable[Mapping[str, Any]], step: int) -> None:
    """Add the sessions before this one, which resumes from a step.

    `rows` are those of `stats.jsonl`, including those of lost steps.
    """
    rows = [row for row in rows if _WRITTEN_AT in row]
    if not rows:
      return
    run_began = rows[-1][_WRITTEN_AT] - _secs_of(rows[-1]).total()
    kept = [row for row in rows if row["step"] <= step]
    before = _secs_of(kept[-1] if kept else {})
    lost = time.time() - run_began - sum(self.secs.values())
    before["lost"] += lost - before.total()
    before["lost"] = max(0.0, before["lost"])  # the clock may have been set
    self._secs.update(before)

  def describe(self) -> str:
    """Return a line with the time by purpose, the largest first."""
    secs = sorted(self.secs.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{what} {duration(x)}" for what, x in secs if x >= 0.5)
    return f"{duration(sum(x for _, x in secs))} in all: {parts}"


def duration(secs: float) -> str:
  """Format a time for people, such as 2h 05m or 3m 20s."""
  minutes, secs = divmod(round(secs), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f"{hours}h {minutes:02d}m"
  return f"{minutes}m {secs:02d}s" if minutes else f"{secs}s"


def _secs_of(row: Mapping[str, Any]) -> collections.Counter:
  return collections.Counter(
    {
      name.removeprefix(_PREFIX): value
      for name, value in row.items()
      if name.startswith(_PREFIX)
    }
  )
