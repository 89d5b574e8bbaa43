"""Memory, threads and open files of a long run stay constant."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from msggan_jax.runtime import jsonl
from tests.runs.forked import finish
from tests.runs.test_processes import start

STEPS = 20_000
FIELDS = {
  "batch_size": 4,
  "total_kimg": 4 * STEPS / 1000,
  "log_kimg": 0.04,
  "snapshot_kimg": 2.0,
  "sample_kimg": 2.0,
}


def look_at(process):
  """Return its resident bytes, threads and open files."""
  folder = Path("/proc", str(process.pid))
  fields = dict(
    line.split(":", 1) for line in (folder / "status").read_text().splitlines()
  )
  kib = int(fields["VmRSS"].split()[0])
  return 1024 * kib, int(fields["Threads"]), len(os.listdir(folder / "fd"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_long_run_stays_as_it_is(tmp_path):
  (process,) = start(tmp_path, "run", 1, devices=1, **FIELDS)
  seen = []
  while process.poll() is None:
    try:
      seen.append(look_at(process))
    except (OSError, KeyError):  # it has just ended
      break
    time.sleep(0.2)
  log = tmp_path / "run-0.log"
  assert finish([process]) == [0], log.read_text()

  # Of ten parts of the run the third and the last.
  parts = np.array_split(np.array(seen), 10)
  early, late = (np.median(parts[i], axis=0) for i in (2, -1))
  print(f"bytes, threads, files: {early} early, {late} late", len(seen))
  assert late[0] <= 1.02 * early[0]
  assert late[1] <= early[1] + 2  # pools start some threads late
  assert late[2] <= early[2]

  # Each second counts once.
  rows = jsonl.read(tmp_path / "run/stats.jsonl")
  assert [row["step"] for row in rows] == list(range(10, STEPS + 1, 10))
  began = [
    row["unix_secs"]
    - sum(x for name, x in row.items() if name.startswith("secs/"))
    for row in rows
  ]
  whole = rows[-1]["unix_secs"] - began[0]
  np.testing.assert_allclose(began, began[0], rtol=0, atol=0.01 * whole)
