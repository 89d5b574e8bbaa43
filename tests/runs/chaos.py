"""Random faults of a run: killed, stopped, its checkpoints damaged.

  python -m tests.runs.chaos --folder=DIR --processes=4 --faults=200 --seed=0

Afterwards the state is byte-identical to an uninterrupted run's. DIR has a line
for every fault in faults.jsonl; the same command continues after the last one.
"""

import argparse
import contextlib
import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from msggan_jax.checkpoints import manifest
from msggan_jax.runtime import errors, jsonl
from tests.algorithm.runs import assert_equal, numbers_of
from tests.runs.forked import Forked, finish
from tests.runs.test_processes import start as start_run
from tests.runs.test_processes import state_of

SECS = 600  # the watchdog's: a start, a step or an end that takes longer hangs
# A checkpoint every other step and an evaluation every fourth.
FIELDS = {
  "snapshot_kimg": 0.032,
  "sample_kimg": 1.0,
  "keep": 3,
  "eval_kimg": 0.064,
  "extractor": "tests.golden_metrics.mean_colors:mean_colors",
  "metrics": "fd_mean_colors_64_full",
}
FOREVER = FIELDS | {"total_kimg": 1000.0}
_ROWS, _LINES = 40, 6  # from which the moment of a fault is drawn


def meet(folder: Path, processes: int, faults: int, seed: int) -> list[dict]:
  """Let a run meet faults after those that are recorded; return all."""
  record = folder / "faults.jsonl"
  met = jsonl.read(record)
  while len(met) < faults:
    # Any fault can be repeated from its own seed.
    fault = _one_fault(folder, processes, random.Random(f"{seed}/{len(met)}"))
    met.append({"fault": len(met), "seed": seed, **fault})
    jsonl.append(record, met[-1])
    print(json.dumps(met[-1]), flush=True)
  return met


def _one_fault(folder: Path, processes: int, rng: random.Random) -> dict:
  fault = {"damage": _damage(folder, rng) if rng.random() < 0.15 else ""}
  kill, *stops = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
  number = rng.choice([kill, kill, *stops])
  victims = rng.sample(range(processes), rng.choice([1, 1, 1, processes]))
  fault["phase"] = rng.choice(["start", "training", "training", "training"])
  moments = _ROWS if fault["phase"] == "training" else _LINES
  began = time.monotonic()
  with _started(
    folder, processes, **{fault["phase"]: rng.randrange(moments)}
  ) as started:
    time.sleep(rng.uniform(0, 0.3))
    for victim in victims:
      started[victim].send_signal(number)
    hit = time.monotonic()
    codes = finish(started, timeout=SECS)
  return fault | {
    "signal": number.name,
    "victims": sorted(victims),
    "codes": codes,
    "secs_to_the_end": round(time.monotonic() - hit, 1),
    "secs": round(time.monotonic() - began, 1),
  }


def finish_and_compare(folder: Path, processes: int) -> int:
  """Stop the run and compare it with an uninterrupted one; return its steps."""
  with _started(folder, processes, training=0) as started:
    started[-1].send_signal(signal.SIGTERM)
    codes = finish(started, timeout=SECS)
  assert set(codes) == {errors.EXIT_STOPPED}, (codes, _logs(folder))
  steps = jsonl.read(folder / "run/stats.jsonl")[-1]["step"]
  options = FIELDS | {"total_kimg": 0.016 * steps}
  # Damage throws a run back, perhaps to before an earlier comparison's end.
  shutil.rmtree(folder / "whole", ignore_errors=True)
  whole = start_run(folder, "whole", processes, devices=processes, **options)
  codes = finish(whole, timeout=None)  # it may be long, and resumes
  assert set(codes) == {0}, codes
  _compare(folder, steps)
  return steps


@contextlib.contextmanager
def _started(
  folder: Path, processes: int, *, start: int = 0, training: int | None = None
) -> Iterator[list[Forked]]:
  """Start the run; wait for `start` lines, or more than `training` new rows."""
  log, stats = folder / "run-0.log", folder / "run/stats.jsonl"
  log.unlink(missing_ok=True)
  rows, began = _lines(stats), time.monotonic()
  started = start_run(folder, "run", processes, devices=processes, **FOREVER)
  with contextlib.ExitStack() as stack:
    for process in started:
      stack.callback(process.wait)
      stack.callback(process.kill)
    while _lines(log) < start or (
      training is not None and _lines(stats) <= rows + training
    ):
      assert time.monotonic() - began < SECS, f"it hangs: {_logs(folder)}"
      assert all(p.poll() is None for p in started), _logs(folder)
      time.sleep(0.01)
    yield started


def _compare(folder: Path, steps: int) -> None:
  names = ("run", "whole")
  assert_equal(*(state_of(folder, name, **FIELDS)[0] for name in names))
  # A stop saves a checkpoint, whose row has both; stability is since the last.
  rows, expected = (
    numbers_of(folder / x, ["stability/", "diversity"]) for x in names
  )
  assert [row["step"] for row in rows] == list(range(1, steps + 1))
  assert rows == expected
  evaluations = [
    [row | {"secs": 0} for row in jsonl.read(folder / name / "metrics.jsonl")]
    for name in names
  ]
  # The run may have been stopped before its last evaluation.
  assert evaluations[0] == evaluations[1][: len(evaluations[0])]
  assert len(evaluations[1]) - len(evaluations[0]) <= 1


def flip(folder: Path) -> None:
  """Flip a bit of a checkpoint's largest file of arrays."""
  files = (path for path in folder.rglob("d/*") if path.is_file())
  path = max(files, key=lambda path: path.stat().st_size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def halve(folder: Path) -> None:
  """Delete every other file of a checkpoint, and its manifest."""
  for path in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
    path.unlink()
  (folder / manifest.NAME).unlink(missing_ok=True)


def _damage(folder: Path, rng: random.Random) -> str:
  """Damage the newest of several checkpoints; return how."""
  checkpoints = folder / "run/checkpoints"
  if not checkpoints.is_dir():
    return ""
  names = (path.name for path in checkpoints.iterdir())
  steps = sorted(int(name) for name in names if name.isdecimal())
  good = [s for s in steps if not manifest.find_damage(checkpoints / str(s))]
  if len(good) < 2:
    return ""
  damage = rng.choice([flip, halve])
  damage(checkpoints / str(good[-1]))
  return f"{damage.__name__} {good[-1]}"


def _lines(path: Path) -> int:
  return path.read_bytes().count(b"\n") if path.exists() else 0


def _logs(folder: Path) -> str:
  return "".join(p.read_text()[-2000:] for p in folder.glob("run-*.log"))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--folder", type=Path, required=True)
  parser.add_argument("--processes", type=int, default=4)
  parser.add_argument("--faults", type=int, default=200)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  folder = arguments.folder
  folder.mkdir(parents=True, exist_ok=True)
  met = meet(folder, arguments.processes, arguments.faults, arguments.seed)
  steps = finish_and_compare(folder, arguments.processes)
  longest = max(fault["secs_to_the_end"] for fault in met)
  print(
    f"{len(met)} faults of {arguments.processes} processes, seed "
    f"{arguments.seed}: none hangs (all ended within {longest} s), and after "
    f"{steps} steps the state is byte-identical to an uninterrupted run's"
  )


if __name__ == "__main__":
  main()
