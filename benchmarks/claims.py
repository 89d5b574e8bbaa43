"""Test the paper's claims at sizes that train on CPU cores.

  python -m benchmarks.claims --list
  python -m benchmarks.claims --part=depth-32

Rules, committed before the runs:

- Every run is MSG-ProGAN as the paper trains it (WGAN-GP, RMSprop, rate 0.003)
  on the demo's cats without classes, batch 4, one device, 8 kimg, unless its
  part varies just that. KID of 1,000 fakes in EfficientNet-Lite0's features at
  the largest scale, at 2, 4, 6 and 8 kimg, so arms can be compared at equal
  images and, by the FLOPs of a step, at equal computation: at the FLOPs of the
  cheaper run, between two evaluations in proportion.
- Depth: 16 channels at every level (8 at 256x256), so a level looks the same in
  every depth. Arms: none (D sees and G makes the largest image alone), control
  (G makes one image, D sees its pyramid) and all (the paper). Whether the
  advantage of multi-scale gradients grows with depth is the difference of KID,
  none - all and control - all, against the number of doublings: its slope, one
  for each seed that all depths have.
- Table 4: the scales that connect G and D, 64x64. Table 3: learning rates, with
  and without connections and growing, 32x32: the loss from the best rate to the
  worst. Table 5: the combine functions, 32x32, of MSG-StyleGAN (logistic loss,
  R1), too; "simple" of MSG-ProGAN is Table 3's run at 0.003. Widths there are
  the demo's.
- Growing: ProGAN and StyleGAN as their authors train them (Adam, rate 0.001)
  against MSG-ProGAN and MSG-StyleGAN of Tables 3 and 5, all at once, 32x32.
  Fades and stages take 1 kimg each, the last stage the rest: ProGAN's shares at
  1024x1024. The same with one optimizer: StyleGAN with MSG-StyleGAN's RMSprop
  at 0.003, and ProGAN's runs of Table 3, which were known before.
- One setting: MSG-ProGAN on Earth at 32x32 and 64x64, beside the cats of Tables
  3 and 4. "Trains" means that KID is smaller at 8 kimg than at 2.
- Figure 6: how much the images of 36 latents change from 6 to 8 kimg, at 32x32,
  where ProGAN is in its last stage since 6; and at every scale of MSG-ProGAN,
  from 2 to 4 kimg against from 6 to 8. Figure 5: the smallest agreement of a
  scale with the largest is 0.9 ("early") at 2 kimg. Runs of Table 3 at 0.003.
- Seeds 21 to 25, paired between arms; 21 to 23 from 128x128 up and in the
  tables. No other run is made with them, and nothing is tuned. A difference
  counts if its mean over the pairs is above twice its standard error and all
  pairs but one at most show it (with three seeds: all). A claim does not hold
  here if one of its differences counts the other way, holds if all count, and
  is not shown otherwise, as while a run is missing or has failed.
- Six rows of depth 32x32, seeds 21 to 23, are older than the rules of slopes,
  of equal computation between evaluations, of Figures 5 and 6 and of claims.

Rows: docs/claims.jsonl and the page beside it.
"""

from typing import Any

from benchmarks import claims_page, section
from benchmarks.experiments import (
  KID,
  PLAIN,
  Experiment,
  Rows,
  Run,
  config_of,
  last_evaluation,
  main,
  program_of,
  step_flops,
)
from benchmarks.section import ROOT
from msggan_jax.algorithm import growth
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
GROWS = {"grow_fade_kimg": 1.0, "grow_stable_kimg": 1.0}
DEPTHS = {32: 5, 64: 5, 128: 3, 256: 3}  # resolution -> seeds
RATES = (0.001, 0.003, 0.005, 0.01)
SCALES = ("none", "coarse", "middle", "fine", "all")
COMBINES = ("simple", "lin_cat", "cat_lin")


def all_runs(rows: Rows) -> list[Run]:
  """Return all runs, the cheap ones first."""
  del rows  # nothing is tuned
  runs = []
  for resolution, seeds in DEPTHS.items():
    size = {"resolution": resolution, "base_channels": 2048, "max_channels": 16}
    arms = {arm: size | fields for arm, fields in CONNECTIONS.items()}
    runs += _paired(f"depth-{resolution}", arms, SEEDS[:seeds])
  three = SEEDS[:3]
  for network in PHI:
    arms = {"grows": GROWS | {"learning_rate": 0.001}}
    if network == "stylegan":  # ProGAN's are in Table 3
      arms["grows, RMSprop"] = GROWS | {"optimizer": "rmsprop"}
    runs += _paired(f"growing-{network}", arms, three, network)
  grows = GROWS | {"optimizer": "rmsprop"}
  arms = {
    f"{arm} at {rate:g}": fields | {"learning_rate": rate}
    for arm, fields in (CONNECTIONS | {"grows": grows}).items()
    for rate in RATES
    if arm != "control"
  }
  runs += _paired("table-3", arms, three)
  for network, combines in (("progan", COMBINES[1:]), ("stylegan", COMBINES)):
    arms = {name: {"combine": name} for name in combines}
    runs += _paired(f"table-5-{network}", arms, three, network)
  arms = {name: {"resolution": 64, "connected_scales": name} for name in SCALES}
  runs += _paired("table-4", arms, three)
  arms = {f"Earth, {side}²": {"resolution": side} for side in (32, 64)}
  return runs + _paired("setting", arms, three, source="earth")


def _paired(
  part: str,
  arms: dict[str, dict[str, Any]],
  seeds: tuple[int, ...],
  network: str = "progan",
  source: str = "cats",
) -> list[Run]:
  paper = {"learning_rate": RATE, "combine": PHI[network]}
  return [
    Run(part, "confirm", arm, seed, source, network, paper | fields)
    for seed in seeds
    for arm, fields in arms.items()
  ]


def argument(run: Run) -> str:
  """Return the paper's preset on a run's images."""
  grows = GROWS.keys() <= run.fields.keys()
  return f"{run.source},{'' if grows else 'msg_'}{run.network}"


def settings(run: Run) -> dict[str, Any]:
  """Return the fields that a run sets."""
  return COMMON | run.fields


def measure(run: Run) -> dict[str, Any]:
  """Return the last evaluation, and numbers by kimg."""
  found = last_evaluation(run, run.fields.get("resolution", 32))
  rows = jsonl.read(run.folder / jsonl.METRICS_FILE)
  program = program_of(config_of(argument(run), settings(run)))
  parts = [
    (step_flops(program.at(phase.resolution)), phase)
    for phase in growth.phases(program.config)
  ]
  found["flops_by_kimg"] = {
    f"{row['kimg']:g}": sum(
      flops * min(max(row["step"] - phase.first_step, 0), phase.steps)
      for flops, phase in parts
    )
    for row in rows
  }
  stats = jsonl.read(run.folder / "stats.jsonl")
  for name, source in (("agreement", rows), ("stability", stats)):
    found[f"{name}_by_kimg"] = {
      f"{row['kimg']:g}": values
      for row in source
      if (
        values := {
          key.rpartition("/")[2]: value
          for key, value in row.items()
          if key.startswith(f"{name}/")
        }
      )
    }
  return found


def write_page() -> None:
  """Write docs/claims.md of the rows."""
  text = claims_page.text(jsonl.read(ROWS), all_runs([]))
  section.replace(claims_page.PAGE, "claims", text)


if __name__ == "__main__":
  main(
    Experiment(
      rules=__doc__,
      rows=ROWS,
      runs=all_runs,
      argument=argument,
      settings=settings,
      measure=measure,
      write_page=write_page,
    )
  )
