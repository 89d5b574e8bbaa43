"""The runs that the experiments of docs/results.md consist of."""

import math
from typing import Any

from benchmarks.experiments import PLAIN, Run, score

RATES = (0.003, 0.006, 0.012)
TUNING_SEED, SEEDS, PAIRED_SEEDS = 100, (1, 2, 3), (1, 2, 3, 4, 5)

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
COMMON = PLAIN | {
  "burn_in_kimg": 0.0,
  "penalty_derivatives": "total",
  "penalty_scales": "mean",
  "r1_gamma": 10.0,
  "learning_rate_end": "same",
  "ema_kimg_end": "same",
  "r1_gamma_end": "same",
  "r2_gamma_end": "same",
  "eval_kimg": 0.0,
  "sample_kimg": 0.0,
  "snapshot_kimg": 1.0,
}
# Part -> the recipe on cats and MSG-ProGAN that its runs are compared with.
COMPARED_WITH = {"weights": "logistic, R1", "residual": "logistic, R1"}
GAMMAS = (1 / 16, 1.0, 16.0)
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
    "augment_kimg": 8.0,
  },
}


def recipe_runs(rows: list[dict], source: str, network: str) -> list[Run]:
  """Return a part's runs; the confirming ones once all rates are tuned."""
  part = f"recipe-{source}-{network}"
  runs = [
    run
    for arm, recipe in RECIPES.items()
    for run in _tuned_runs(rows, part, arm, recipe, source, network)
  ]
  return sorted(runs, key=lambda run: run.stage == "confirm")


def residual_runs(rows: list[dict]) -> list[Run]:
  """Return runs of the residual networks: the recipe that won on cats."""
  recipe = RECIPES["logistic, R1"]
  return _tuned_runs(
    rows, "residual", "residual networks", recipe, "cats", "residual"
  )


def _tuned_runs(
  rows: list[dict],
  part: str,
  arm: str,
  recipe: dict[str, Any],
  source: str,
  network: str,
) -> list[Run]:
  """Return an arm's tuning runs and, once they ended, the confirming ones."""

  def make(stage: str, seed: int, rate: float) -> Run:
    fields = recipe | {"learning_rate": rate}
    return Run(part, stage, arm, seed, source, network, fields)

  runs = [make("tune", TUNING_SEED, rate) for rate in RATES]
  if (rate := best_rate(rows, part, arm)) is not None:
    runs += [make("confirm", seed, rate) for seed in SEEDS]
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


def _varied(
  rows: list[dict], part: str, arm: str, recipe: str, more: dict[str, Any]
) -> list[Run]:
  """Return confirming runs of a tuned recipe, with other fields."""
  if (fields := _tuned(rows, recipe)) is None:
    return []
  return [
    Run(part, "confirm", arm, seed, "cats", "progan", fields | more)
    for seed in SEEDS
  ]


def _tuned(rows: list[dict], arm: str) -> dict[str, Any] | None:
  """Return a recipe at its rate for cats on MSG-ProGAN; None before tuning."""
  rate = best_rate(rows, "recipe-cats-progan", arm)
  return None if rate is None else RECIPES[arm] | {"learning_rate": rate}


def gamma_runs(rows: list[dict], resolution: int) -> list[Run]:
  """Return runs of the pairing recipe by pixels with other gammas."""
  if (fields := _tuned(rows, "pairing, R1 + R2")) is None:
    return []
  fields |= {"resolution": resolution, "penalty_scales": "pixels"}
  return [
    Run(
      f"gamma-{resolution}",
      "tune",
      f"gamma {gamma:g}",
      TUNING_SEED,
      "cats",
      "progan",
      fields | {"r1_gamma": gamma, "r2_gamma": gamma},
    )
    for gamma in GAMMAS
  ]


def few_runs(rows: list[dict], num: int) -> list[Run]:
  """Return runs on few cats: all augmentations, then the best in pairs."""
  if (recipe := _tuned(rows, "logistic, R1")) is None:
    return []
  part = f"few-{num}"
  runs = [
    _few(recipe, part, num, "tune", arm, TUNING_SEED) for arm in AUGMENTATIONS
  ]
  scores = {
    row["arm"]: score(row)
    for row in rows
    if (row["part"], row["stage"]) == (part, "tune")
  }
  others = {arm: each for arm, each in scores.items() if arm != "none"}
  if len(scores) == len(AUGMENTATIONS):
    best = min(others, key=others.__getitem__)
    runs += [
      _few(recipe, part, num, "confirm", arm, seed)
      for seed in PAIRED_SEEDS
      for arm in ("none", best)
    ]
  return runs


def long_runs(rows: list[dict]) -> list[Run]:
  """Return a pair of runs on 100 cats, long enough for D to overfit."""
  if (recipe := _tuned(rows, "logistic, R1")) is None:
    return []
  pair = [
    _few(recipe, "few-long", 100, "tune", arm, TUNING_SEED)
    for arm in ("none", "adaptive")
  ]
  return [run._replace(budgets=6.0) for run in pair]


def _few(
  recipe: dict[str, Any], part: str, num: int, stage: str, arm: str, seed: int
) -> Run:
  fields = recipe | {"dataset.holdout": 20_000 - num} | AUGMENTATIONS[arm]
  return Run(part, stage, arm, seed, "cats", "progan", fields)


def all_runs(rows: list[dict]) -> list[Run]:
  """Return every run that is known so far, in order."""
  runs = []
  for source in ("cats", "earth"):
    for network in ("progan", "stylegan"):
      runs += recipe_runs(rows, source, network)
  more = {"connected_scales": "none"}
  runs += _varied(rows, "scales", "single scale", "pairing, R1 + R2", more)
  # The largest scale has its weight of the mean of four: gamma is a quarter.
  more = {"penalty_scales": "pixels", "r1_gamma": 2.5}
  runs += _varied(rows, "weights", "R1 by pixels", "logistic, R1", more)
  runs += residual_runs(rows)
  runs += gamma_runs(rows, 16) + gamma_runs(rows, 32)
  runs += few_runs(rows, 100) + few_runs(rows, 1_000) + long_runs(rows)
  return runs
