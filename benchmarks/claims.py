"""Test the paper's claims at sizes that train on CPU cores.

  python -m benchmarks.claims --list
  python -m benchmarks.claims --part=depth-32

Rules, committed before the runs:

- Every run is MSG-ProGAN as the paper trains it (WGAN-GP, RMSprop, rate 0.003)
  on the demo's cats without classes, batch 4, one device, 8 kimg, unless its
  part varies just that. KID of 1,000 fakes in EfficientNet-Lite0's features at
  the largest scale, at 2, 4, 6 and 8 kimg, so arms can be compared at equal
  images and, by the FLOPs of a step, at equal computation.
- Depth: 16 channels at every level (8 at 256x256), so a level looks the same in
  every depth. Arms: none (D sees and G makes the largest image alone), control
  (G makes one image, D sees its pyramid) and all (the paper). Whether the
  advantage of multi-scale gradients grows with depth is the difference of KID,
  none - all and control - all, against the number of doublings.
- Table 4: the scales that connect G and D, 64x64. Table 3: learning rates, with
  and without connections, 32x32: the loss from the best rate to the worst.
  Table 5: the combine functions, 32x32, of MSG-StyleGAN (logistic loss, R1),
  too. Widths there are the demo's.
- Seeds 21 to 25, paired between arms; 21 to 23 from 128x128 up and in the
  tables. No other run is made with them, and nothing is tuned. A difference
  counts if its mean over the pairs is above twice its standard error and all
  pairs but one at most show it (with three seeds: all).

Rows: docs/claims.jsonl.
"""

from typing import Any

from benchmarks.experiments import (
  KID,
  PLAIN,
  Experiment,
  Rows,
  Run,
  last_evaluation,
  main,
)
from benchmarks.section import ROOT
from msggan_jax.runtime import jsonl

ROWS = ROOT / "docs/claims.jsonl"
KIMG, EVALUATIONS = 8.0, 4
SEEDS = (21, 22, 23, 24, 25)
RATE = 0.003
PHI = {"progan": "simple", "stylegan": "cat_lin"}  # the best in Table 5
COMMON = PLAIN | {
  "total_kimg": KIMG,
  "eval_kimg": KIMG / EVALUATIONS,
  "sample_kimg": KIMG / EVALUATIONS,
  "snapshot_kimg": KIMG / EVALUATIONS,
  "metrics": KID,
}
CONNECTIONS: dict[str, dict[str, Any]] = {
  "none": {"connected_scales": "none"},
  "control": {"pyramid": "pooled"},
  "all": {},
}
RATES = (0.001, 0.003, 0.005, 0.01)
SCALES = ("none", "coarse", "middle", "fine", "all")
COMBINES = ("simple", "lin_cat", "cat_lin")


def all_runs(rows: Rows) -> list[Run]:
  """Return all runs, the cheap ones first."""
  del rows  # nothing is tuned
  runs = []
  for resolution, seeds in ((32, 5), (64, 5), (128, 3), (256, 3)):
    size = {"resolution": resolution, "base_channels": 2048, "max_channels": 16}
    arms = {arm: size | fields for arm, fields in CONNECTIONS.items()}
    runs += _paired(f"depth-{resolution}", arms, SEEDS[:seeds])
  arms = {
    f"{arm}, rate {rate:g}": CONNECTIONS[arm] | {"learning_rate": rate}
    for arm in ("none", "all")
    for rate in RATES
  }
  runs += _paired("table-3", arms, SEEDS[:3])
  arms = {name: {"combine": name} for name in COMBINES}
  for network in ("progan", "stylegan"):
    runs += _paired(f"table-5-{network}", arms, SEEDS[:3], network)
  arms = {name: {"resolution": 64, "connected_scales": name} for name in SCALES}
  return runs + _paired("table-4", arms, SEEDS[:3])


def _paired(
  part: str,
  arms: dict[str, dict[str, Any]],
  seeds: tuple[int, ...],
  network: str = "progan",
) -> list[Run]:
  paper = {"learning_rate": RATE, "combine": PHI[network]}
  return [
    Run(part, "confirm", arm, seed, "cats", network, paper | fields)
    for seed in seeds
    for arm, fields in arms.items()
  ]


def argument(run: Run) -> str:
  """Return the paper's preset on a run's images."""
  return f"{run.source},msg_{run.network}"


def measure(run: Run) -> dict[str, Any]:
  """Return the last evaluation and the stability."""
  found = last_evaluation(run, run.fields.get("resolution", 32))
  stats = jsonl.read(run.folder / "stats.jsonl")
  found["stability"] = {
    f"{row['kimg']:g}": values
    for row in stats
    if (values := {k: v for k, v in row.items() if k.startswith("stability/")})
  }
  return found


if __name__ == "__main__":
  main(
    Experiment(
      rules=__doc__,
      rows=ROWS,
      runs=all_runs,
      argument=argument,
      settings=lambda run: COMMON | run.fields,
      measure=measure,
    )
  )
