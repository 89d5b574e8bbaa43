"""Run the experiments of docs/results.md.

  python -m benchmarks.results --list
  python -m benchmarks.results --part=recipe-cats
  python -m benchmarks.results_page     (writes its tables and plots)

Each run that ends is a row of docs/results.jsonl, failures included; finished
rows are skipped. Runs resume exactly, so the command can be stopped at any
time. Several parts can run side by side.
"""

import argparse
import contextlib
import json
import math
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import residual_networks
from msggan_jax import data
from msggan_jax.algorithm.program import make_program
from msggan_jax.metrics.distances import kernel_distance
from msggan_jax.metrics.efficientnet import EfficientNetLite0
from msggan_jax.models import pyramid
from msggan_jax.planning import flops
from msggan_jax.runtime import jsonl, sharding
from msggan_jax.weights import trained
from msggan_jax.weights.config_file import load_config

ROOT = Path(__file__).parent.parent
ROWS = ROOT / "docs/results.jsonl"
RUNS = ROOT / "runs/results"

BUDGET_KIMG = 8.0  # of WGAN-GP on MSG-ProGAN; its FLOPs are every run's budget
RATES = (0.003, 0.006, 0.012)
TUNING_SEED, SEEDS, PAIRED_SEEDS = 100, (1, 2, 3), (1, 2, 3, 4, 5)
NUM_FAKES, NUM_SMALL_FAKES, NUM_UNSEEN = 2_000, 500, 10_000

_R1 = {"penalty": "r1", "r1_gamma": 10.0, "penalty_derivatives": "partial"}
RECIPES: dict[str, dict[str, Any]] = {
  "WGAN-GP": {"loss": "wasserstein", "penalty": "gradient_penalty"},
  "logistic, R1": {"loss": "logistic", **_R1},
  "relativistic hinge": {"loss": "relativistic_hinge", "penalty": "none"},
  "pairing, R1 + R2": {
    "loss": "relativistic_pairing",
    "penalty": "r1_r2",
    "penalty_derivatives": "partial",
    "r1_gamma": 1.0,
    "r2_gamma": 1.0,
  },
}
_COMMON = {
  "batch_size": 4,
  "stddev_group": 4,
  "ema_kimg": 0.5,
  "burn_in_kimg": 0.0,
  "penalty_derivatives": "total",
  "learning_rate_end": "same",
  "ema_kimg_end": "same",
  "r1_gamma_end": "same",
  "r2_gamma_end": "same",
  "eval_kimg": 0.0,
  "sample_kimg": 0.0,
  "snapshot_kimg": 1.0,
}
AUGMENTATIONS: dict[str, dict[str, Any]] = {
  "none": {},
  "fixed": {"augment": "exact", "augment_strength": 0.6},
  "scheduled": {
    "augment": "exact",
    "augment_strength": 0.0,
    "augment_strength_end": 0.6,
    "burn_in_kimg": 4.0,
  },
  "adaptive": {
    "augment": "exact",
    "augment_strength": 0.8,
    "augment_target": 0.5,
    "augment_holdout": "test",
    "augment_kimg": 8.0,
  },
}


class Run(NamedTuple):
  """One training.

  Attributes:
    part: Group of runs that one command trains.
    stage: "tune" (a development seed) or "confirm".
    arm: What is compared.
    seed: Its seed.
    source: "cats" or "earth".
    network: "progan", "stylegan" or "residual" (`residual_networks`).
    fields: Fields of the configuration.
  """

  part: str
  stage: str
  arm: str
  seed: int
  source: str
  network: str
  fields: dict[str, Any]

  @property
  def name(self) -> str:
    rate = f" {self.fields['learning_rate']:g}" if self.stage == "tune" else ""
    return f"{self.part} {self.stage} {self.arm}{rate} seed {self.seed}"

  @property
  def folder(self) -> Path:
    return folder_of(self.name)


def folder_of(name: str) -> Path:
  """Return the workdir of a run."""
  words = name.replace(",", "").replace("+", "and").split()
  return RUNS / "-".join(words)


def recipe_runs(rows: list[dict], source: str, network: str) -> list[Run]:
  """Return a part's runs; the confirming ones once all rates are tuned."""
  part = f"recipe-{source}-{network}"
  runs = []
  for arm, fields in RECIPES.items():
    runs += [
      Run(part, "tune", arm, TUNING_SEED, source, network, fields | each)
      for each in ({"learning_rate": rate} for rate in RATES)
    ]
  for arm, fields in RECIPES.items():
    if (rate := best_rate(rows, part, arm)) is not None:
      chosen = fields | {"learning_rate": rate}
      runs += [
        Run(part, "confirm", arm, seed, source, network, chosen)
        for seed in SEEDS
      ]
  return runs


def best_rate(rows: list[dict], part: str, arm: str) -> float | None:
  """Return the tuned learning rate; None before all rates are finished.

  The smallest score of the development seed; a failed run counts as infinite.
  """
  scores = {
    row["fields"]["learning_rate"]: score(row)
    for row in rows
    if (row["part"], row["stage"], row["arm"]) == (part, "tune", arm)
  }
  if set(scores) < set(RATES) or min(scores.values()) == math.inf:
    return None
  return min(scores, key=scores.__getitem__)


def score(row: dict) -> float:
  """Return the mean KID of a row's scales; infinite for a failed run."""
  return statistics.mean(row["kid"].values()) if row["kid"] else math.inf


def scale_runs(rows: list[dict]) -> list[Run]:
  """Return single-scale runs: the pairing recipe at its tuned rate."""
  arm = "pairing, R1 + R2"
  rate = best_rate(rows, "recipe-cats-progan", arm)
  fields = RECIPES[arm] | {"learning_rate": rate, "connected_scales": "none"}
  return [
    Run("scales", "confirm", "single scale", seed, "cats", "progan", fields)
    for seed in (SEEDS if rate is not None else ())
  ]


def residual_runs(rows: list[dict]) -> list[Run]:
  """Return runs of the residual networks: the recipe that won on cats."""
  part, arm = "residual", "residual networks"
  fields = RECIPES["logistic, R1"]

  def make(stage: str, seed: int, rate: float) -> Run:
    each = fields | {"learning_rate": rate}
    return Run(part, stage, arm, seed, "cats", "residual", each)

  runs = [make("tune", TUNING_SEED, rate) for rate in RATES]
  if (rate := best_rate(rows, part, arm)) is not None:
    runs += [make("confirm", seed, rate) for seed in SEEDS]
  return runs


def few_runs(rows: list[dict], num: int) -> list[Run]:
  """Return runs on few cats: all augmentations, then the best in pairs."""
  part, recipe = f"few-{num}", "logistic, R1"
  rate = best_rate(rows, "recipe-cats-progan", recipe)
  if rate is None:
    return []
  base = RECIPES[recipe] | {"learning_rate": rate}
  base |= {"dataset.holdout": 20_000 - num}

  def make(stage: str, arm: str, seed: int) -> Run:
    fields = base | AUGMENTATIONS[arm]
    return Run(part, stage, arm, seed, "cats", "progan", fields)

  runs = [make("tune", arm, TUNING_SEED) for arm in AUGMENTATIONS]
  scores = {
    row["arm"]: score(row)
    for row in rows
    if (row["part"], row["stage"]) == (part, "tune")
  }
  others = {arm: each for arm, each in scores.items() if arm != "none"}
  if len(scores) == len(AUGMENTATIONS):
    best = min(others, key=others.__getitem__)
    runs += [
      make("confirm", arm, seed)
      for seed in PAIRED_SEEDS
      for arm in ("none", best)
    ]
  return runs


def all_runs(rows: list[dict]) -> list[Run]:
  """Return every run that is known so far, in order."""
  runs = []
  for source in ("cats", "earth"):
    for network in ("progan", "stylegan"):
      runs += recipe_runs(rows, source, network)
  runs += scale_runs(rows) + residual_runs(rows)
  return runs + few_runs(rows, 100) + few_runs(rows, 1_000)


def belongs(part: str, wanted: str) -> bool:
  """Return whether a part is `wanted` or one of its group (recipe-cats)."""
  return not wanted or part == wanted or part.startswith(f"{wanted}-")


def config_argument(run: Run) -> str:
  """Return the argument of configs/demo.py."""
  preset = ",msg_stylegan" if run.network == "stylegan" else ""
  return f"{run.source}{preset}"


def kimg_of(run: Run) -> float:
  """Return the length, in kimg, at which a run has used the budget.

  The budget is that of WGAN-GP on MSG-ProGAN. A step with its penalty counts;
  the length is a whole number of steps.
  """
  reference = run._replace(network="progan", fields=RECIPES["WGAN-GP"])
  own, theirs = (
    step_flops(each) / config_of(each).batch_size for each in (run, reference)
  )
  batch_size = config_of(run).batch_size
  steps = round(1000 * BUDGET_KIMG * theirs / own / batch_size)
  return steps * batch_size / 1000


def step_flops(run: Run) -> int:
  """Return the model FLOPs of a training step."""
  mesh = sharding.make_mesh(jax.devices()[:1])
  with networks_of(run):
    program = make_program(config_of(run), mesh)
    return flops.model_flops(
      program.step, program.abstract_state, program.abstract_batch
    )


def networks_of(run: Run) -> contextlib.AbstractContextManager:
  """Return a context in which the run's networks are built."""
  if run.network == "residual":
    return residual_networks.installed()
  return contextlib.nullcontext()


def train(run: Run, kimg: float) -> int:
  """Train, or resume; return the exit code."""
  fields = _COMMON | run.fields | {"seed": run.seed, "total_kimg": kimg}
  residual = run.network == "residual"
  main = residual_networks.__name__ if residual else "msggan_jax.main"
  command = [sys.executable, "-m", main]
  command += [f"--config=configs/demo.py:{config_argument(run)}"]
  command += [f"--workdir={run.folder}"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  run.folder.parent.mkdir(parents=True, exist_ok=True)
  with Path(f"{run.folder}.log").open("a") as log:
    return subprocess.run(
      command, cwd=ROOT, stdout=log, stderr=log, check=False
    ).returncode


def measure(run: Run) -> dict[str, float]:
  """Return the KID of each scale of the last generator, by resolution."""
  with networks_of(run):
    generator = trained.load_generator(run.folder)
  z = generator.sample_latents(jax.random.key(run.seed), NUM_FAKES)
  *small, largest = trained.in_batches(generator, z, 100)
  fakes = [*(images[:NUM_SMALL_FAKES] for images in small), largest]
  network = EfficientNetLite0.from_package()

  def features(images: np.ndarray) -> np.ndarray:
    parts = np.array_split(images, max(len(images) // 100, 1))
    return np.concatenate([network.features(p)[network.pooled] for p in parts])

  path = RUNS / f"unseen-{run.source}.npz"
  if not path.exists():
    reals = pyramid.to_float(jnp.asarray(unseen(run.source)))
    scales = pyramid.make_pyramid(reals, pyramid.resolutions_up_to(32))
    np.savez(
      path,
      **{str(len(x[0])): features(pyramid.to_uint8(x)) for x in scales},
    )
  with np.load(path) as reals:
    return {
      str(len(images[0])): kernel_distance(
        features(np.asarray(pyramid.to_uint8(images))),
        reals[str(len(images[0]))],
      )
      for images in fakes
    }


def unseen(source: str) -> np.ndarray:
  """Return images that no run has seen, (N, 32, 32, 3).

  Cats: the split "unseen", whose combinations of parts are neither in training
  nor in test. Earth: all tiles of "test", which are fewer than 10,000.
  """
  split = "unseen" if source == "cats" else "test"
  dataset = ConfigDict(
    {"name": source, "split": split, "path": "", "crop": "center"}
    | {"data_dir": str(RUNS / "data")}
  )
  prepared = data.open_prepared(data.prepare(dataset, 32, 3))
  num = min(len(prepared), NUM_UNSEEN)
  return np.stack([prepared[i]["image"] for i in range(num)])


def run_all(runs: Iterable[Run]) -> None:
  """Train and record the runs that have no row yet."""
  names = {row["name"] for row in jsonl.read(ROWS)}
  for run in runs:
    if run.name in names:
      continue
    began = time.time()
    code = train(run, kimg_of(run))
    if code in (-2, 75, 130):  # stopped; the next command resumes it
      sys.exit(code)
    row = run._asdict() | {"name": run.name, "exit_code": code, "kid": None}
    if code == 0:
      row["kid"] = measure(run)
      row["kimg"] = load_config(run.folder).total_kimg
    row["minutes"] = round((time.time() - began) / 60, 1)
    jsonl.append(ROWS, row)
    print(json.dumps(row), flush=True)


def config_of(run: Run) -> ConfigDict:
  """Return the configuration that a run's command has."""
  demo = runpy.run_path(str(ROOT / "configs/demo.py"))
  config = demo["get_config"](config_argument(run))
  for name, value in (_COMMON | run.fields).items():
    with config.ignore_type():
      config.update_from_flattened_dict({name: value})
  return config


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--part", help="one part, or a group: recipe-cats")
  parser.add_argument("--list", action="store_true", help="list runs and rows")
  arguments = parser.parse_args()
  rows = jsonl.read(ROWS)
  parts = {run.part for run in all_runs(rows)} | {"scales", "few-100"}
  wanted = arguments.part or ""
  if not any(belongs(part, wanted) for part in parts):
    parser.exit(
      2, f"--part={wanted}: choose one of {', '.join(sorted(parts))}\n"
    )
  if arguments.list:
    scores = {row["name"]: f"{score(row):.4f}" for row in rows}
    for run in all_runs(rows):
      print(f"{run.name}: {scores.get(run.name, 'to be run')}")
    return
  # Again: confirming runs are known once the tuning ones are finished.
  for _ in range(3):
    runs = all_runs(jsonl.read(ROWS))
    run_all(run for run in runs if belongs(run.part, wanted))


if __name__ == "__main__":
  main()
