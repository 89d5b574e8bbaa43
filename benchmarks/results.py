"""Run the experiments of docs/results.md.

  python -m benchmarks.results --list
  python -m benchmarks.results --part=recipe-cats
  python -m benchmarks.results_page     (writes its tables and plots)

Each run that ends is a row of docs/results.jsonl, failures included; finished
rows are skipped. Runs resume exactly, so the command can be stopped at any
time. Several parts can run side by side.
"""

import argparse
import functools
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.experiments import (
  COMMON,
  RECIPES,
  ROOT,
  RUNS,
  Run,
  all_runs,
  belongs,
  score,
)
from msggan_jax import data
from msggan_jax.algorithm.program import make_program
from msggan_jax.checkpoints import trained
from msggan_jax.config.saved import load_config
from msggan_jax.data import sources
from msggan_jax.metrics.distances import kernel_distance
from msggan_jax.metrics.efficientnet import EfficientNetLite0
from msggan_jax.models import pyramid
from msggan_jax.planning import flops
from msggan_jax.runtime import jsonl, sharding

ROWS = ROOT / "docs/results.jsonl"
BUDGET_KIMG = 8.0  # of WGAN-GP on MSG-ProGAN; its FLOPs are every run's budget
NUM_FAKES, NUM_SMALL_FAKES, NUM_UNSEEN = 2_000, 500, 10_000


def config_argument(run: Run) -> str:
  """Return the argument of configs/demo.py."""
  preset = "" if run.network == "progan" else f",msg_{run.network}"
  return f"{run.source}{preset}"


def kimg_of(run: Run) -> float:
  """Return the length, in kimg, at which a run has used its budgets.

  A step with its penalty counts; the length is a whole number of steps.
  """
  steps = round(run.budgets * budget(run.source) / step_flops(run))
  return steps * config_of(run).batch_size / 1000


@functools.cache
def budget(source: str) -> float:
  """Return a budget in FLOPs: `BUDGET_KIMG` of WGAN-GP on MSG-ProGAN."""
  run = Run("", "confirm", "", 0, source, "progan", RECIPES["WGAN-GP"])
  return 1000 * BUDGET_KIMG / config_of(run).batch_size * step_flops(run)


def step_flops(run: Run) -> int:
  """Return the model FLOPs of a training step."""
  mesh = sharding.make_mesh(jax.devices()[:1])
  program = make_program(config_of(run), mesh)
  return flops.model_flops(
    program.step, program.abstract_state, program.abstract_batch
  )


def train(
  run: Run, argument: str, fields: Mapping[str, Any], environment: Mapping = {}
) -> int:
  """Train, or resume, configs/demo.py:ARGUMENT; return the exit code."""
  command = [sys.executable, "-m", "msggan_jax.main"]
  command += [f"--config=configs/demo.py:{argument}"]
  command += [f"--workdir={run.folder}"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  run.folder.parent.mkdir(parents=True, exist_ok=True)
  with Path(f"{run.folder}.log").open("a") as log:
    return subprocess.run(
      command,
      cwd=ROOT,
      env={**os.environ, **environment},
      stdout=log,
      stderr=log,
      check=False,
    ).returncode


def measure(run: Run) -> dict[str, float]:
  """Return the KID of each scale of the last generator, by resolution."""
  generator = trained.load_generator(run.folder)
  z = generator.sample_latents(jax.random.key(run.seed), NUM_FAKES)
  *small, largest = trained.map_batches(generator, z, batch_size=100)
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
  fields = {"split": split, "data_dir": str(RUNS / "data")}
  config = sources.config_of(f"demo:{source}", 32, **fields)
  prepared = data.open_prepared(data.prepare(config))
  num = min(len(prepared), NUM_UNSEEN)
  return np.stack([prepared[i]["image"] for i in range(num)])


def run_all(runs: Iterable[Run]) -> None:
  """Train and record the runs that have no row yet."""
  names = {row["name"] for row in jsonl.read(ROWS)}
  for run in runs:
    if run.name in names:
      continue
    began = time.time()
    fields = COMMON | run.fields
    fields |= {"seed": run.seed, "total_kimg": kimg_of(run)}
    code = train(run, config_argument(run), fields)
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
  for name, value in (COMMON | run.fields).items():
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
