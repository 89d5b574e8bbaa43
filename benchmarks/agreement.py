"""Choose how G's scales come to agree: trials on the demo's recipe.

  python -m benchmarks.agreement --list
  python -m benchmarks.agreement --data=cats --network=progan
  python -m benchmarks.agreement --data=cats --network=progan --arms=none,exact

Rules, committed before the runs:

- Each run is the demo's recipe for 16 kimg on one device; MSG-StyleGAN with
  half its learning rate, the best in docs/results.md. Arms differ by less than
  1 % in FLOPs, so their budgets are equal.
- Tuning: every arm once, with seed 100. Nothing is concluded from one seed.
- Confirming: no extra term, and the best arm of each family by score, with five
  fresh seeds, 11 to 15, paired between arms. No other run is made with them. A
  difference counts if its mean over the pairs is above twice its standard error
  and at least four of the five pairs show it.
- Score: the mean KID of the scales at the end, of 1,000 fakes in EfficientNet-
  Lite0's features; beside it, the KID of the largest scale and the agreement.
  The winner has an agreement of at least 0.99 at every scale; among those, the
  lowest score, unless its KID at the largest scale is worse than with no term.

Each run that ends is a row of docs/agreement.jsonl, failures included; finished
rows are skipped. Runs resume exactly, so the command can be stopped at any
time. Several can run side by side, with other data, networks or arms.
"""

import argparse
import json
import sys
import time
from typing import Any

from benchmarks import cats
from benchmarks.experiments import ROOT, Run, score
from benchmarks.results import train
from msggan_jax.checkpoints import trained
from msggan_jax.runtime import jsonl

ROWS = ROOT / "docs/agreement.jsonl"
KIMG = 16.0
TUNING_SEED, SEEDS = 100, (11, 12, 13, 14, 15)
SCALES = (4, 8, 16, 32)
KID = "kid_efficientnet_lite0_1000"
NONE = "none"
_EXACT = {"pyramid": "exact"}
_PIXELS = {"penalty_scales": "pixels", "r1_gamma": 2.5}
_RATES = {"progan": 0.012, "stylegan": 0.006}
# The demo has these weights: the arm without them is the same.
_SAME = {"cats": "exact-sides", "earth": "exact-mean"}
# Family -> arm -> fields, beside those of the demo; `rate` is a factor.
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
  NONE: {NONE: {}},
  "term": {
    "weight-0.3": {"agreement_weight": 0.3},
    "weight-1": {"agreement_weight": 1.0},
    "weight-3": {"agreement_weight": 3.0},
    "weight-10": {"agreement_weight": 10.0},
    "moving-1": {"agreement_weight": 1.0, "agreement_target": "moving"},
    "next-1": {"agreement_weight": 1.0, "agreement_target": "next"},
  },
  "exact": {
    "exact": _EXACT,
    "exact-half-rate": _EXACT | {"rate": 0.5},
    "exact-gain-0.5": _EXACT | {"linear_gain": 0.5},
    # The same weight of the largest scale.
    "exact-pixels": _EXACT | _PIXELS,
    "exact-sides": _EXACT | {"penalty_scales": "sides", "r1_gamma": 2.5},
    "exact-mean": _EXACT | {"penalty_scales": "mean", "r1_gamma": 10.0},
  },
  "pooled": {
    "pooled": {"pyramid": "pooled"},
    "pooled-pixels": {"pyramid": "pooled"} | _PIXELS,
  },
}
ARMS = {arm: x for family in FAMILIES.values() for arm, x in family.items()}


def make_run(stage: str, arm: str, seed: int, data: str, network: str) -> Run:
  """Return a run of an arm."""
  fields = {"model": network, **ARMS[arm]}
  fields["learning_rate"] = _RATES[network] * fields.pop("rate", 1.0)
  part = f"agreement-{data}-{network}"
  return Run(part, stage, arm, seed, data, network, fields)


def tuning_runs(data: str, network: str) -> list[Run]:
  """Return one run of each arm."""
  return [
    make_run("tune", arm, TUNING_SEED, data, network)
    for arm in ARMS
    if arm != _SAME[data]
  ]


def confirming_runs(rows: list[dict], data: str, network: str) -> list[Run]:
  """Return pairs of the best of each family; none before all are tuned."""
  runs = tuning_runs(data, network)
  by_name = {row["name"]: row for row in rows}
  if any(run.name not in by_name for run in runs):
    return []
  scores = {run.arm: score(by_name[run.name]) for run in runs}
  best = [
    min((arm for arm in arms if arm in scores), key=scores.__getitem__)
    for arms in FAMILIES.values()
  ]
  return [
    make_run("confirm", arm, seed, data, network)
    for seed in SEEDS
    for arm in best
  ]


def run_one(run: Run) -> dict[str, Any]:
  """Train, or resume, and return the row."""
  names = [KID, *(f"{KID}/{scale}" for scale in SCALES[:-1])]
  fields = run.fields | {
    "seed": run.seed,
    "total_kimg": KIMG,
    "eval_kimg": KIMG / 2,
    "sample_kimg": KIMG / 2,
    "snapshot_kimg": 1.0,
    "metrics": ",".join(names),
  }
  began = time.time()
  code = train(run, run.source, fields, {"JAX_NUM_CPU_DEVICES": "1"})
  if code in (-2, 75, 130, 143):  # stopped; the next command resumes it
    sys.exit(code)
  row = run._asdict() | {"name": run.name, "exit_code": code, "kid": None}
  if code == 0:
    row |= measure(run)
  return row | {"minutes": round((time.time() - began) / 60, 1)}


def measure(run: Run) -> dict[str, Any]:
  """Return the numbers of a finished run, by scale."""
  half, end = jsonl.read(run.folder / jsonl.METRICS_FILE)[-2:]
  last = jsonl.read(run.folder / "stats.jsonl")[-1]
  lower = [str(scale) for scale in SCALES[:-1]]
  found = {
    "kimg": end["kimg"],
    "kid": {s: end[f"{KID}/{s}"] for s in lower} | {str(SCALES[-1]): end[KID]},
    "kid_half": half[KID],
    "agreement": {s: end[f"agreement/{s}"] for s in lower},
    "rmse": {s: end[f"agreement_rmse/{s}"] for s in lower},
    # Of training alone, over all sessions.
    "train_secs": round(last["secs/step"], 1),
  }
  if run.source == "cats":
    generator = trained.load_generator(run.folder)
    found["bodies"] = cats.measure(generator)["bodies"]
  return found


def line(run: Run, row: dict[str, Any] | None) -> str:
  """Return a run and its numbers for people."""
  if row is None or row["kid"] is None:
    return f"{run.name}: {'to be run' if row is None else 'failed'}"
  agreement = ", ".join(f"{x:.3f}" for x in row["agreement"].values())
  return (
    f"{run.name}: mean KID {score(row):.4f}, {SCALES[-1]}x{SCALES[-1]} "
    f"{row['kid'][str(SCALES[-1])]:.4f}, agreement {agreement}, "
    f"{row.get('bodies', '-')} bodies, {row['train_secs'] / 60:.1f} min"
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--data", choices=("cats", "earth"), default="cats")
  parser.add_argument(
    "--network", choices=("progan", "stylegan"), default="progan"
  )
  parser.add_argument("--arms", help="some of them, with commas")
  parser.add_argument("--list", action="store_true", help="list runs and rows")
  arguments = parser.parse_args()
  wanted = arguments.arms.split(",") if arguments.arms else [*ARMS]
  if unknown := [arm for arm in wanted if arm not in ARMS]:
    parser.exit(2, f"--arms: {unknown[0]!r} is none of {', '.join(ARMS)}\n")
  of = (arguments.data, arguments.network)
  while True:
    rows = {row["name"]: row for row in jsonl.read(ROWS)}
    runs = tuning_runs(*of) + confirming_runs([*rows.values()], *of)
    runs = [run for run in runs if run.arm in wanted]
    if arguments.list:
      print("\n".join(line(run, rows.get(run.name)) for run in runs))
      return
    left = [run for run in runs if run.name not in rows]
    if not left:
      return
    row = run_one(left[0])
    jsonl.append(ROWS, row)
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main()
