"""Where the time went: each second once, across restarts."""

import pytest

from msggan_jax.runtime import clock as clock_module
from msggan_jax.runtime.clock import TimeRecord


@pytest.fixture
def clock(monkeypatch):
  """A clock that moves when it is told to."""

  class Clock:
    now = 1000.0

  for name in ("time", "monotonic"):
    monkeypatch.setattr(clock_module.time, name, lambda: Clock.now)
  return Clock


def session(clock, began, rows=(), step=0):
  """Begin a session two seconds ago."""
  times = TimeRecord(began)
  times.resume(rows, step)
  times.switch_to("step")
  return times


def test_each_second_counts_once(clock):
  times = session(clock, began=998.0)
  clock.now += 10
  with times.during("checkpoint"):
    clock.now += 3
    with times.during("data"):
      clock.now += 1
    clock.now += 2
  clock.now += 4
  assert times.secs == {"start": 2, "step": 14, "checkpoint": 5, "data": 1}
  said = "22s in all: step 14s, checkpoint 5s, start 2s, data 1s"
  assert times.describe() == said


def test_restarts_lose_time_and_forget_none(clock):
  times = session(clock, began=999.0)
  clock.now += 10
  rows = [{"step": 5} | times.as_row()]  # of the checkpoint
  clock.now += 20
  rows.append({"step": 9} | times.as_row())
  clock.now += 500  # killed at some time in here

  times = session(clock, clock.now - 2, rows, step=5)
  assert times.secs == {"start": 1 + 2, "step": 10, "lost": 518}
  clock.now += 7
  assert sum(times.secs.values()) == clock.now - 999

  # Without a row of the step that it starts from all is lost.
  times = session(clock, clock.now - 2, rows, step=0)
  assert times.secs == {"start": 2, "step": 0, "lost": clock.now - 1001}
  # Rows of a time before there was a record.
  times = session(clock, clock.now, [{"step": 3}], step=3)
  assert times.secs == {"start": 0, "step": 0}


def test_a_clock_that_is_set_counts_no_negative_time(clock):
  before = clock.now
  row = {"step": 1, "unix_secs": before, "secs/step": 5.0, "secs/start": 2.0}
  for jump in (-500, 500):
    clock.now = before + jump
    times = session(clock, clock.now + 10, [row], step=1)
    lost = max(jump, 0)
    assert times.secs == {"start": 2, "step": 5, "lost": lost}
