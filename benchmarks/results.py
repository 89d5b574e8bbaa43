"""Run the experiments of docs/results.md.

  python -m benchmarks.results --list
  python -m benchmarks.results --part=recipe-cats
  python -m benchmarks.results_page     (writes its tables and plots)

Rules: docs/results.md; runs: benchmarks/recipes.py; rows: docs/results.jsonl.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import experiments
from benchmarks.experiments import RUNS, Experiment, Run, main
from benchmarks.recipes import COMMON, RECIPES, all_runs
from benchmarks.section import ROOT
from msggan_jax import data
from msggan_jax.checkpoints import trained
from msggan_jax.data import sources
from msggan_jax.metrics.distances import kernel_distance
from msggan_jax.metrics.efficientnet import EfficientNetLite0
from msggan_jax.models import pyramid
from msggan_jax.runtime import progress

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
  return experiments.step_flops(experiments.program_of(config_of(run)))


def settings(run: Run) -> dict[str, Any]:
  """Return the fields that a run sets."""
  return COMMON | run.fields | {"total_kimg": kimg_of(run)}


def measure(run: Run) -> dict[str, Any]:
  """Return the length and each scale's KID of the last generator."""
  generator = trained.load_generator(run.folder)
  z = generator.sample_latents(jax.random.key(run.seed), NUM_FAKES)
  *small, largest = progress.map_batches(generator, z, batch_size=100)
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
    kid = {
      str(len(images[0])): kernel_distance(
        features(np.asarray(pyramid.to_uint8(images))),
        reals[str(len(images[0]))],
      )
      for images in fakes
    }
  return {"kid": kid, "kimg": kimg_of(run)}


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


def config_of(run: Run) -> ConfigDict:
  """Return the configuration that a run's command has."""
  return experiments.config_of(config_argument(run), COMMON | run.fields)


if __name__ == "__main__":
  main(Experiment(__doc__, ROWS, all_runs, config_argument, settings, measure))
