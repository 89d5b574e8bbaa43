"""Trainings that are compared: their names, folders and rows.

An experiment is a module that lists its runs; `main` is its command. Each run
that ends is a row of a JSON Lines file, failures included; finished rows are
skipped. Runs resume exactly, so a command can be stopped at any time. Several
commands can share a part: each skips the runs that another is training.
"""

import argparse
import contextlib
import math
import os
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from benchmarks.section import ROOT
from msggan_jax.algorithm.program import Program, make_program
from msggan_jax.planning import flops
from msggan_jax.runtime import folder_lock, jsonl, sharding

RUNS = ROOT / "runs/results"
KID = "kid_efficientnet_lite0_1000"
_STOPPED = (75, 130, 143)  # the next command resumes it
# The demo in small batches, with the paper's pyramid and no classes, which all
# recipes can train.
PLAIN = {
  "pyramid": "rgb",
  "penalty_scales": "mean",
  "dataset.labels": "none",
  "num_classes": 0,
  "batch_size": 4,
  "stddev_group": 4,
  "ema_kimg": 0.5,
}

Rows = list[dict[str, Any]]
Side = tuple[str, str]  # part, arm
# What is above 0 if a claim is true, one number a seed; None: not all known.
Values = list[float] | None


class Run(NamedTuple):
  """One training."""

  part: str  # group of runs that one command trains
  stage: str  # "tune" (a development seed) or "confirm"
  arm: str  # the compared setting
  seed: int
  source: str  # "cats" or "earth"
  network: str  # "progan", "stylegan" or "residual"
  fields: dict[str, Any]  # of the configuration
  budgets: float = 1.0  # its length

  @property
  def name(self) -> str:
    rate = f" {self.fields['learning_rate']:g}" if self.stage == "tune" else ""
    return f"{self.part} {self.stage} {self.arm}{rate} seed {self.seed}"

  @property
  def folder(self) -> Path:
    return folder_of(self.name)


class Experiment(NamedTuple):
  """What `main` needs of a module that lists runs."""

  rules: str  # its docstring
  rows: Path
  runs: Callable[[Rows], list[Run]]  # those known so far
  argument: Callable[[Run], str]  # of configs/demo.py
  settings: Callable[[Run], dict[str, Any]]  # all fields that a run sets
  measure: Callable[[Run], dict[str, Any]]  # a finished run's numbers
  write_page: Callable[[], None] = lambda: None


def folder_of(name: str) -> Path:
  """Return the workdir of a run."""
  words = name.replace(",", "").replace("+", "and").split()
  return RUNS / "-".join(words)


def score(row: dict) -> float:
  """Return the mean KID of a row's scales; infinite for a failed run."""
  return statistics.mean(row["kid"].values()) if row["kid"] else math.inf


class Difference(NamedTuple):
  """Differences of pairs of seeds."""

  mean: float
  error: float  # standard error of the mean
  shown: int  # pairs above 0
  pairs: int

  @property
  def counts(self) -> bool:
    """Return whether the mean is above 0, by the rule of the experiments.

    It is above twice its standard error, and all pairs show it, but one at most
    of five.
    """
    missing = self.pairs - self.shown
    return self.mean > 2 * self.error and missing <= (self.pairs >= 5)


def difference(values: Sequence[float]) -> Difference:
  """Return the mean of differences and how sure it is."""
  error = statistics.stdev(values) / math.sqrt(len(values))
  shown = sum(value > 0 for value in values)
  return Difference(statistics.mean(values), error, shown, len(values))


def figure(values: Values) -> str:
  """Return the mean difference, twice its error, and how many pairs show it."""
  if not values:
    return "incomplete"
  found = difference(values)
  near = f"{found.mean:.3g} ± {2 * found.error:.2g}"
  return f"{near}, {found.shown} of {found.pairs}"


class Results:
  """Confirming rows by part and arm."""

  def __init__(self, rows: Rows, runs: Sequence[Run]):
    """Take rows of any experiments, and runs that are to have one."""
    self._rows, self._missing = {}, set()
    for row in rows:
      if row["stage"] == "confirm":
        self._rows.setdefault((row["part"], row["arm"]), {})[row["seed"]] = row
    for run in runs:
      if run.seed not in self.of(side := (run.part, run.arm)):
        self._missing.add(side)

  def of(self, side: Side) -> dict[int, dict]:
    """Return the rows that did not fail, by seed."""
    found = sorted(self._rows.get(side, {}).items())
    return {seed: row for seed, row in found if row["kid"]}

  def complete(self, *sides: Side) -> list[tuple[dict, ...]] | None:
    """Return the rows of each seed; None while one is missing or failed."""
    each = [self.of(side) for side in sides]
    seeds = set.intersection(*map(set, each))
    if not seeds or self._missing & set(sides):
      return None
    return [tuple(rows[seed] for rows in each) for seed in sorted(seeds)]

  def apart(
    self, a: Side, b: Side, value: Callable[[dict], float] = score
  ) -> Values:
    """Return the differences a - b of a value of rows."""
    pairs = self.complete(a, b)
    return pairs and [value(x) - value(y) for x, y in pairs]

  def each(self, side: Side, value: Callable[[dict], float]) -> Values:
    """Return a value of each row."""
    rows = self.complete(side)
    return rows and [value(row) for (row,) in rows]


def config_of(argument: str, fields: Mapping[str, Any]) -> ConfigDict:
  """Return the configuration that `train` has."""
  demo = runpy.run_path(str(ROOT / "configs/demo.py"))
  config = demo["get_config"](argument)
  with config.ignore_type():
    config.update_from_flattened_dict(fields)
  return config


def program_of(config: ConfigDict) -> Program:
  """Return the program on one device."""
  return make_program(config, sharding.make_mesh(jax.devices()[:1]))


def step_flops(program: Program) -> int:
  """Return the model FLOPs of a training step."""
  return flops.model_flops(
    program.step, program.abstract_state, program.abstract_batch
  )


def belongs(part: str, wanted: str) -> bool:
  """Return whether a part is `wanted` or one of its group (recipe-cats)."""
  return not wanted or part == wanted or part.startswith(f"{wanted}-")


def last_evaluation(run: Run, resolution: int = 32) -> dict[str, Any]:
  """Return the numbers of a run's last evaluation, by scale."""
  rows = jsonl.read(run.folder / jsonl.METRICS_FILE)
  end = rows[-1]
  last = jsonl.read(run.folder / "stats.jsonl")[-1]

  def by_scale(name: str) -> dict[str, float]:
    found = {
      key.rpartition("/")[2]: value
      for key, value in end.items()
      if key.startswith(f"{name}/") and key.rpartition("/")[2].isdigit()
    }
    return dict(sorted(found.items(), key=lambda item: int(item[0])))

  return {
    "kimg": end["kimg"],
    "kid": by_scale(KID) | {str(resolution): end[KID]},
    "agreement": by_scale("agreement"),
    "rmse": by_scale("agreement_rmse"),
    # Of full images, so a run that grows has none before its last stage.
    "kid_by_kimg": {f"{r['kimg']:g}": r[KID] for r in rows if KID in r},
    # Of training alone, over all sessions.
    "train_secs": round(last["secs/step"], 1),
  }


def train(run: Run, argument: str, fields: Mapping[str, Any]) -> int:
  """Train, or resume, configs/demo.py:ARGUMENT on one device.

  Returns the exit code.
  """
  command = [sys.executable, "-m", "msggan_jax.main"]
  command += [f"--config=configs/demo.py:{argument}"]
  command += [f"--workdir={run.folder}"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  run.folder.parent.mkdir(parents=True, exist_ok=True)
  with Path(f"{run.folder}.log").open("a") as log:
    return subprocess.run(
      command,
      cwd=ROOT,
      env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
      stdout=log,
      stderr=log,
      check=False,
    ).returncode


def run_one(experiment: Experiment, run: Run) -> dict[str, Any]:
  """Train, or resume, and return the row."""
  began = time.time()
  fields = experiment.settings(run) | {"seed": run.seed}
  code = train(run, experiment.argument(run), fields)
  if code in _STOPPED or code < 0:  # less than 0: by a signal
    sys.exit(code)
  row = run._asdict() | {"name": run.name, "exit_code": code, "kid": None}
  if code == 0:
    row |= experiment.measure(run)
  return row | {"minutes": round((time.time() - began) / 60, 1)}


class _Taken(Exception):
  """Another command is training this run."""


def add_row(experiment: Experiment, runs: Sequence[Run]) -> bool:
  """Train the first run that no other command is training, and add its row.

  Returns False if there is no such run.
  """

  def refuse(holder: str) -> None:
    raise _Taken(holder)

  for run in runs:
    with (
      contextlib.suppress(_Taken),
      folder_lock.locked(Path(f"{run.folder}.lock"), refuse),
    ):
      # Another command may have ended it since the rows were read.
      rows = jsonl.read(experiment.rows)
      if run.name not in {row["name"] for row in rows}:
        jsonl.append(experiment.rows, run_one(experiment, run))
      return True
  return False


def _choose(text: str, names: set[str]) -> tuple[set[str], str]:
  """Return the known names of a list with commas, and the unknown rest.

  Names may have commas themselves: `logistic, R1`.
  """
  chosen, rest = set(), f",{text},"
  for name in sorted(names, key=len, reverse=True):
    while f",{name}," in rest:
      chosen.add(name)
      rest = rest.replace(f",{name},", ",")
  return chosen, rest.strip(",")


def main(experiment: Experiment) -> None:
  """Train the runs that have no row yet, one by one, or list all runs."""
  parser = argparse.ArgumentParser(
    description=experiment.rules,
    formatter_class=argparse.RawTextHelpFormatter,
  )
  parser.add_argument("--part", default="", help="one, or a group: recipe-cats")
  parser.add_argument("--arms", help="some of them, with commas")
  parser.add_argument("--list", action="store_true", help="list runs and rows")
  arguments = parser.parse_args()
  known = experiment.runs(jsonl.read(experiment.rows))
  parts, all_arms = {run.part for run in known}, {run.arm for run in known}
  arms, unknown = _choose(arguments.arms or "", all_arms)
  if not any(belongs(part, arguments.part) for part in parts):
    parser.exit(
      2, f"--part={arguments.part}: choose one of {', '.join(sorted(parts))}\n"
    )
  if unknown:
    names = ", ".join(sorted(all_arms))
    parser.exit(2, f"--arms: {unknown!r} is none of {names}\n")
  while True:
    rows = {row["name"]: row for row in jsonl.read(experiment.rows)}
    runs = [
      run
      for run in experiment.runs([*rows.values()])
      if belongs(run.part, arguments.part) and (not arms or run.arm in arms)
    ]
    if arguments.list:
      for run in runs:
        row = rows.get(run.name)
        print(f"{run.name}: {f'{score(row):.4f}' if row else 'to be run'}")
      return
    experiment.write_page()
    left = [run for run in runs if run.name not in rows]
    if not add_row(experiment, left):
      for run in left:
        print(f"{run.name}: another command is training it")
      return
