"""Threads follow the cores of the process, not of the machine."""

import os
from pathlib import Path

import pytest

import msggan_jax
from msggan_jax.runtime.cores import usable_cores


@pytest.mark.skipif(
  not hasattr(os, "sched_getaffinity"), reason="macOS has no affinity"
)
def test_cores_of_the_process():
  allowed = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(allowed)})
    assert usable_cores() == 1
  finally:
    os.sched_setaffinity(0, allowed)
  assert usable_cores() == len(allowed)


def test_without_affinity(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity", raising=False)
  monkeypatch.setattr(os, "cpu_count", lambda: 3)
  assert usable_cores() == 3
  monkeypatch.setattr(os, "cpu_count", lambda: None)
  assert usable_cores() == 1


def test_nothing_else_counts_cores():
  files = Path(msggan_jax.__file__).parent.rglob("*.py")
  counting = {path.name for path in files if "cpu_count" in path.read_text()}
  assert counting == {"cores.py"}
