"""Choose how G's scales come to agree: trials on the demo's recipe.

  python -m benchmarks.agreement --list
  python -m benchmarks.agreement --part=agreement-cats-progan
  python -m benchmarks.agreement --part=agreement-cats --arms=none,exact

Rules, committed before the runs:

- Each run is the demo's recipe for 16 kimg on one device; MSG-StyleGAN with
  half its learning rate, the best of Earth in docs/results.md (of cats 0.1015,
  with the whole rate 0.0958). Arms differ by less than 1 % in FLOPs, so their
  budgets are equal.
- Tuning: every arm once, with seed 100. Nothing is concluded from one seed.
  Where cats on MSG-ProGAN had been tuned, the other three were left with the
  arms that can win and did there at the better of their rates. Half the rate is
  left out, and so are two terms of G's loss, weight-1 and next-1: with them
  agreement stayed at 0.94. 69c688f was the last commit that had them.
  Skip never had the best score of those that agree: cats 0.043 and 0.105 of
  0.025 and 0.047, Earth 0.170 and 0.064 of 0.088 and 0.052. So it is gone, with
  skip-half-rate. e0a1c7c was the last commit that had it.
- Score: the mean KID of the scales at the end, of 1,000 fakes in EfficientNet-
  Lite0's features; beside it, the KID of the largest scale and the agreement.
- Confirming: the arm without any of it, and the one with the best score among
  those whose agreement is at least 0.99 at every scale, with five fresh seeds,
  11 to 15, paired. Rules below that came later reuse these seeds. A difference
  counts if its mean over the pairs is above twice its standard error and at
  least four of the five pairs show it. The arm wins unless it is worse at the
  largest scale.
- The demo: the ten confirming runs of cats on MSG-ProGAN go on to its length,
  48 kimg, and are evaluated every 8. The demo gets the winner if there is an
  evaluation whose KID at 32x32, as a mean over the five seeds, is no worse than
  that of none at 48 kimg. The first such evaluation is its new length.
- If there is none, the winner's five runs go on to 56 kimg, and the demo gets
  it with that length by the same condition.
- The demo of Earth: in the same way, with the confirming runs of Earth.
- On the sheets of exact a faint grid lies over Earth's tiles. So the Laplacian
  pyramid, which adds details to the one below doubled smoothly, is tuned, too,
  after the others were confirmed. In a first trial, which has no row, another
  form of the same code had a mean KID of 0.066 and 0.176 at 32x32 on Earth.
  There its seeds 11 to 15 are compared with none's and with exact's. If its
  mean KID of the scales is better in at least four pairs with exact, and the
  difference counts, and it is not worse at the largest scale, it takes exact's
  place, which is deleted then. It was better in four pairs, but the difference
  does not count. 1364b49 was the last commit that had it. The planned run on
  cats was not made.
- A learning rate that falls to a quarter along the burn-in, 32 kimg, was tried
  with the winner and seed 100. At 24 kimg it was behind the winner's first
  three seeds, so rate and gamma together were not tried.
- A faster demo: the winner with a higher rate, with R1 at every second step,
  and with both, once with seed 100 and 16 kimg. By KID at 32x32 and the seconds
  of training, one may be confirmed later, with five seeds and its length. The
  higher rate alone was worse; with R1 at every second step it was 0.060 against
  0.068. A step took longer, until a lazy penalty skipped its work on CPUs, too
  (docs/performance.md). So both together are confirmed with seeds 11 to 15, 56
  kimg, evaluated every 8. The demo of cats gets them if an evaluation has a
  mean KID at 32x32 over the seeds no worse than the winner's 0.0342 at 56 kimg,
  and the agreement at the end is 0.99. The first one is its new length. Seeds
  11 and 14 ended at 0.0446 and 0.0430. Stopping there was not in the rule: the
  other three would have needed a mean of 0.028, which no seed has reached.
- R1 at every second step alone, the rate as it was, is the second candidate, by
  the same rule: seeds 11 to 15, 56 kimg, evaluated every 8. It is given up once
  the other seeds would need a mean below 0.028. It was, after four: they ended
  at 0.0360, the winner's at 0.0340, and seed 15 would have needed 0.0268.
- A weaker penalty: with gamma 2.5 the pooled pyramid is smooth on Earth and,
  in the demo's first two pairs, behind at 32x32. So gamma 1 is tuned, too, with
  seed 100 and 16 kimg. If it is better than 2.5 at 32x32 and not worse in the
  mean of the scales, it may enter the demo's comparison. It was worse.
- c1bb2e4 was the last commit that had the arms of the last four rules.

Rows: docs/agreement.jsonl and the page beside it.
"""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import cats, section
from benchmarks.experiments import (
  KID,
  Experiment,
  Results,
  Rows,
  Run,
  figure,
  last_evaluation,
  main,
  score,
)
from benchmarks.section import ROOT
from msggan_jax.checkpoints import trained
from msggan_jax.runtime import jsonl

ROWS, PAGE = ROOT / "docs/agreement.jsonl", ROOT / "docs/agreement.md"
KIMG = 16.0
# Parts with other lengths, kimg.
DEMO, DEMO_EARTH = "agreement-demo", "agreement-demo-earth"
LONGER = "agreement-longer"
LENGTHS = {DEMO: 48.0, DEMO_EARTH: 48.0, LONGER: 56.0}
TUNING_SEED, SEEDS = 100, (11, 12, 13, 14, 15)
SCALES = (4, 8, 16, 32)
AGREES = 0.99
NONE = "none"
_PIXELS = {"penalty_scales": "pixels", "r1_gamma": 2.5}
# The demos before their scales agreed.
_BEFORE = {
  "cats": {"pyramid": "rgb", "penalty_scales": "sides", "r1_gamma": 2.5},
  "earth": {"pyramid": "rgb"},
}
_RATES = {"progan": 0.012, "stylegan": 0.006}
ARMS: dict[str, dict[str, Any]] = {  # fields beside those of the demo
  NONE: {},
  "exact": {"pyramid": "exact"},
  "exact-half-rate": {"pyramid": "exact", "rate": 0.5},  # `rate` is a factor
  "pooled": {"pyramid": "pooled"},
  # The same weight of the largest scale.
  "pooled-pixels": {"pyramid": "pooled", **_PIXELS},
}
FEWER = (NONE, "exact", "pooled", "pooled-pixels")


def make_run(stage: str, arm: str, seed: int, data: str, network: str) -> Run:
  """Return a run of an arm."""
  fields = {"model": network, **_BEFORE[data], **ARMS[arm]}
  fields["learning_rate"] = _RATES[network] * fields.pop("rate", 1.0)
  part = f"agreement-{data}-{network}"
  return Run(part, stage, arm, seed, data, network, fields)


def tuning_runs(data: str, network: str) -> list[Run]:
  """Return one run of each arm."""
  arms = ARMS if (data, network) == ("cats", "progan") else FEWER
  return [make_run("tune", arm, TUNING_SEED, data, network) for arm in arms]


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


def demo_runs(rows: Rows) -> list[Run]:
  """Return the confirming runs of MSG-ProGAN, with other lengths."""
  confirming = confirming_runs(rows, "cats", "progan")
  earth = confirming_runs(rows, "earth", "progan")
  runs = [run._replace(part=DEMO) for run in confirming]
  runs += [run._replace(part=DEMO_EARTH) for run in earth]
  runs += [
    run._replace(part=LONGER, arm=f"{run.arm}-longer")
    for run in confirming
    if run.arm != NONE
  ]
  return [run._replace(budgets=LENGTHS[run.part] / KIMG) for run in runs]


def all_runs(rows: Rows) -> list[Run]:
  """Return every run that is known so far, in order."""
  return [
    run
    for data in ("cats", "earth")
    for network in _RATES
    for run in (
      *tuning_runs(data, network),
      *confirming_runs(rows, data, network),
    )
  ] + demo_runs(rows)


def settings(run: Run) -> dict[str, Any]:
  """Return the fields that a run sets."""
  between = 8.0 if run.part in LENGTHS else KIMG
  return run.fields | {
    "total_kimg": KIMG * run.budgets,
    **dict.fromkeys(("eval_kimg", "sample_kimg"), between),
    "snapshot_kimg": 1.0,
    "metrics": ",".join([KID, *(f"{KID}/{scale}" for scale in SCALES[:-1])]),
  }


def measure(run: Run) -> dict[str, Any]:
  """Return the numbers of a finished run; of cats the bodies, too."""
  found = last_evaluation(run)
  if run.source == "cats":
    generator = trained.load_generator(run.folder)
    found["bodies"] = cats.measure(generator)["bodies"]
  return found


# Measures of a row; +1: more is better.
MEASURES: dict[str, tuple[Callable[[dict], float], int]] = {
  "mean KID of the scales": (score, -1),
  "KID of 32x32": (lambda row: row["kid"]["32"], -1),
  "smallest agreement": (lambda row: min(row["agreement"].values()), 1),
  "bodies of 15": (lambda row: row.get("bodies", 0), 1),
}


def differences(rows: Rows) -> str:
  """Return the table of confirmed arms beside the same seeds of none."""
  runs = [run for run in all_runs(rows) if run.stage == "confirm"]
  results = Results(rows, runs)
  lines = []
  for part, arm in dict.fromkeys((run.part, run.arm) for run in runs):
    without = (DEMO if part == LONGER else part, NONE)
    pairs = results.complete(without, (part, arm))
    if arm == NONE or not pairs:
      continue
    for name, (value, sign) in MEASURES.items():
      both = [tuple(map(value, pair)) for pair in pairs]
      if not any(map(any, both)):  # Earth has no bodies
        continue
      means = [statistics.mean(side) for side in zip(*both, strict=True)]
      better = figure([sign * (b - a) for a, b in both])
      lines.append([part, arm, name, *map("{:.4g}".format, means), better])
  head = ("part", "arm", "measure", "none", "arm's")
  head += ("better by, ± twice its standard error, in how many seeds",)
  return section.table(head, lines)


def line(row: dict[str, Any]) -> list:
  """Return a run's cells of the table."""
  of = f"{row['source']}, {row['network']}"
  names = [of, row["arm"], row["stage"], row["seed"]]
  names.append(f"{KIMG * row['budgets']:g}")
  if row["kid"] is None:
    return [*names, f"code {row['exit_code']}", *[""] * 5]

  def of_scales(values: dict[str, float]) -> str:
    return " / ".join(f"{x:.3f}" for x in values.values())

  return [
    *names,
    of_scales(row["kid"]),
    f"{score(row):.4f}",
    of_scales(row["agreement"]),
    of_scales(row["rmse"]),
    row.get("bodies", ""),
    f"{row['train_secs'] / 60:.0f}",
  ]


def write_page() -> None:
  """Write the rows into docs/agreement.md."""
  rows = jsonl.read(ROWS)
  head = (
    "data, network",
    "arm",
    "stage",
    "seed",
    "kimg",
    "KID of the scales",
    "mean",
  )
  head += ("agreement", "RMSE", "bodies", "min")
  text = section.table(head, map(line, rows))
  section.replace(PAGE, "rows", text)
  section.replace(PAGE, "pairs", differences(rows))


if __name__ == "__main__":
  main(
    Experiment(
      rules=__doc__,
      rows=ROWS,
      runs=all_runs,
      argument=lambda run: run.source,
      settings=settings,
      measure=measure,
      write_page=write_page,
    )
  )
