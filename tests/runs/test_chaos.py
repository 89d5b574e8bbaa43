"""A run killed at random instants ends as one that was left alone."""

import random
import signal
import time

import jax
import numpy as np
import pytest

from msggan_jax.runtime import preemption
from tests.runs.test_processes import finish, run, start, state_of

# A checkpoint every other step, so that many kills meet a save.
FIELDS = {"snapshot_kimg": 0.032, "sample_kimg": 1.0, "keep": 2}
RUN = FIELDS | {"devices": 1}
TIMES = {"images_per_sec", "secs_per_kimg", "memory_bytes", "unix_secs"}


@pytest.mark.parametrize(
  ("kills", "seed"),
  [(2, 0), pytest.param(50, 1, marks=pytest.mark.slow)],
)
def test_kills_change_nothing(tmp_path, kills, seed):
  rng = random.Random(seed)
  stats = tmp_path / "run/stats.jsonl"
  for i in range(kills + 1):
    size = stats.stat().st_size if stats.exists() else 0
    (process,) = start(tmp_path, "run", 1, total_kimg=1000.0, **RUN)
    if i == kills or rng.random() < 0.8:  # while it trains
      deadline = time.monotonic() + 120
      while not stats.exists() or stats.stat().st_size == size:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 1.5))
    else:  # while it starts
      time.sleep(rng.uniform(0, 8))
    process.send_signal(signal.SIGKILL if i < kills else signal.SIGTERM)
    (code,) = finish([process], timeout=60)
  assert code == preemption.EXIT_CODE
  steps = stats.read_text().count("\n")
  run(tmp_path, "whole", 1, total_kimg=0.016 * steps, **RUN)
  (state, rows), (expected, expected_rows) = (
    state_of(tmp_path, name, **FIELDS) for name in ("run", "whole")
  )
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  assert [row["step"] for row in rows] == list(range(1, steps + 1))
  for row, expected_row in zip(rows, expected_rows, strict=True):
    assert row.keys() - {"secs/lost"} == expected_row.keys()
    for name in row.keys() - TIMES:
      if not name.startswith("secs/"):
        assert row[name] == expected_row[name]
