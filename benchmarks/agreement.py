"""Choose how G's scales come to agree: trials on the demo's recipe.

  python -m benchmarks.agreement --list
  python -m benchmarks.agreement --data=cats --network=progan
  python -m benchmarks.agreement --data=cats --network=progan --arms=none,exact

Rules, committed before the runs:

- Each run is the demo's recipe for 16 kimg on one device; MSG-StyleGAN with
  half its learning rate, the best in docs/results.md. Arms differ by less than
  1 % in FLOPs, so their budgets are equal.
- Tuning: every arm once, with seed 100. Nothing is concluded from one seed.
- Score: the mean KID of the scales at the end, of 1,000 fakes in EfficientNet-
  Lite0's features; beside it, the KID of the largest scale and the agreement.
- Confirming: the arm without any of it, and the one with the best score among
  those whose agreement is at least 0.99 at every scale, with five fresh seeds,
  11 to 15, paired. No other run is made with them. A difference counts if its
  mean over the pairs is above twice its standard error and at least four of the
  five pairs show it. The arm wins unless it is worse at the largest scale.

Each run that ends is a row of docs/agreement.jsonl and of the page beside it,
failures included; finished rows are skipped. Runs resume exactly, so the
command can be stopped at any time. Several can run side by side, with other
data, networks or arms.
"""

import argparse
import sys
import time
from typing import Any

from benchmarks import cats, section
from benchmarks.experiments import Run, score
from benchmarks.results import train
from benchmarks.section import ROOT
from msggan_jax.checkpoints import trained
from msggan_jax.runtime import jsonl

ROWS = ROOT / "docs/agreement.jsonl"
KIMG = 16.0
TUNING_SEED, SEEDS = 100, (11, 12, 13, 14, 15)
SCALES = (4, 8, 16, 32)
AGREES = 0.99
KID = "kid_efficientnet_lite0_1000"
NONE = "none"
_PIXELS = {"penalty_scales": "pixels", "r1_gamma": 2.5}
_RATES = {"progan": 0.012, "stylegan": 0.006}
ARMS: dict[str, dict[str, Any]] = {  # fields beside those of the demo
  NONE: {},
  "weight-1": {"agreement_weight": 1.0},
  "next-1": {"agreement_weight": 1.0, "agreement_target": "next"},
  "exact": {"pyramid": "exact"},
  "exact-half-rate": {"pyramid": "exact", "rate": 0.5},  # `rate` is a factor
  "pooled": {"pyramid": "pooled"},
  # The same weight of the largest scale.
  "pooled-pixels": {"pyramid": "pooled", **_PIXELS},
  "skip": {"pyramid": "skip"},
  "skip-half-rate": {"pyramid": "skip", "rate": 0.5},
}


def make_run(stage: str, arm: str, seed: int, data: str, network: str) -> Run:
  """Return a run of an arm."""
  fields = {"model": network, **ARMS[arm]}
  fields["learning_rate"] = _RATES[network] * fields.pop("rate", 1.0)
  part = f"agreement-{data}-{network}"
  return Run(part, stage, arm, seed, data, network, fields)


def tuning_runs(data: str, network: str) -> list[Run]:
  """Return one run of each arm."""
  return [make_run("tune", arm, TUNING_SEED, data, network) for arm in ARMS]


def confirming_runs(rows: list[dict], data: str, network: str) -> list[Run]:
  """Return pairs with the best that agrees; none before all are tuned."""
  by_name = {row["name"]: row for row in rows}
  tuned = [by_name.get(run.name) for run in tuning_runs(data, network)]
  if None in tuned:
    return []
  agreeing = [
    row
    for row in tuned
    if row["kid"] and min(row["agreement"].values()) >= AGREES
  ]
  if not agreeing:
    return []
  best = min(agreeing, key=score)["arm"]
  return [
    make_run("confirm", arm, seed, data, network)
    for seed in SEEDS
    for arm in (NONE, best)
  ]


def run_one(run: Run) -> dict[str, Any]:
  """Train, or resume, and return the row."""
  names = [KID, *(f"{KID}/{scale}" for scale in SCALES[:-1])]
  fields = run.fields | {
    "seed": run.seed,
    "total_kimg": KIMG,
    "eval_kimg": KIMG,
    "sample_kimg": KIMG,
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
  end = jsonl.read(run.folder / jsonl.METRICS_FILE)[-1]
  last = jsonl.read(run.folder / "stats.jsonl")[-1]
  lower = [str(scale) for scale in SCALES[:-1]]
  found = {
    "kimg": end["kimg"],
    "kid": {s: end[f"{KID}/{s}"] for s in lower} | {str(SCALES[-1]): end[KID]},
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
  """Return a run and its numbers as a line of a table."""
  names = [f"{run.source}, {run.network}", run.arm, run.stage, str(run.seed)]
  if row is None or row["kid"] is None:
    numbers = ["to be run" if row is None else f"code {row['exit_code']}"]
    return f"| {' | '.join([*names, *numbers, *[''] * 5])} |"

  def of_scales(values: dict[str, float]) -> str:
    return " / ".join(f"{x:.3f}" for x in values.values())

  numbers = [
    of_scales(row["kid"]),
    f"{score(row):.4f}",
    of_scales(row["agreement"]),
    of_scales(row["rmse"]),
    str(row.get("bodies", "")),
    f"{row['train_secs'] / 60:.0f}",
  ]
  return f"| {' | '.join([*names, *numbers])} |"


def write_page() -> None:
  """Write the rows into docs/agreement.md."""
  rows = jsonl.read(ROWS)
  runs = [Run(**{name: row[name] for name in Run._fields}) for row in rows]
  lines = [
    "| data, network | arm | stage | seed | KID of the scales | mean "
    "| agreement | RMSE | bodies | min |",
    "|---|---|---|---|---|---|---|---|---|---|",
    *map(line, runs, rows),
  ]
  section.replace(ROOT / "docs/agreement.md", "rows", "\n".join(lines) + "\n")


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
    write_page()


if __name__ == "__main__":
  main()
