"""Threads follow the cores of the process, not of the machine."""

import os

from msggan_jax.runtime.machine import usable_cores


def test_cores_of_the_process(monkeypatch):
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    allowed = os.sched_getaffinity(0)
    try:
      os.sched_setaffinity(0, {min(allowed)})
      assert usable_cores() == 1
    finally:
      os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)
  monkeypatch.delattr(os, "sched_getaffinity", raising=False)
  for machine, cores in ((3, 3), (None, 1)):
    monkeypatch.setattr(os, "cpu_count", lambda count=machine: count)
    assert usable_cores() == cores
