"""The experiments' budgets and the choice of what is confirmed."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
  agreement,
  claims,
  claims_page,
  experiments,
  plan_table,
  recipes,
  results,
)
from msggan_jax.checkpoints import trained
from msggan_jax.config import checks
from msggan_jax.runtime import folder_lock, jsonl
from tests.conftest import load_config


def test_the_residual_networks_differ_in_their_networks_alone():
  run = recipes.residual_runs([])[0]
  ours = results.config_of(run)
  theirs = results.config_of(run._replace(network="progan"))
  differing = {name for name in ours if ours[name] != theirs[name]}
  networks = {"model", "combine", "stddev_placement"}
  assert differing - networks <= {"total_kimg", "metrics"}


def test_a_finished_run_has_a_score(tmp_path, monkeypatch):
  class Network:
    pooled = "colors"

    def features(self, images):
      return {self.pooled: np.asarray(images).mean((1, 2))}

  draw = np.random.default_rng(0).normal
  reals = {str(r): draw(size=(20, 3)) for r in (4, 8, 16, 32)}
  np.savez(tmp_path / "unseen-cats.npz", **reals)
  monkeypatch.setattr(results, "RUNS", tmp_path)
  monkeypatch.setattr(results.EfficientNetLite0, "from_package", Network)
  monkeypatch.setattr(results, "kimg_of", lambda _: 8.0)
  for name in ("NUM_FAKES", "NUM_SMALL_FAKES"):
    monkeypatch.setattr(results, name, 12)
  generator = trained.load_generator("cats")
  monkeypatch.setattr(trained, "load_generator", lambda _: generator)
  monkeypatch.setattr(experiments, "train", lambda *_: 0)
  experiment = experiments.Experiment(
    *("", results.ROWS, results.all_runs, results.config_argument),
    *(results.settings, results.measure),
  )
  run = next(run for run in results.all_runs([]) if run.source == "cats")
  row = experiments.run_one(experiment, run)
  assert row["kid"].keys() == reals.keys() and row["kimg"] == 8.0
  assert experiments.score(row) == np.mean([*row["kid"].values()])


@pytest.mark.slow  # counts several training steps
def test_budgets_are_flops():
  runs = [recipes.recipe_runs([], "cats", "progan")[i] for i in (0, 6, 9)]
  lengths = [results.kimg_of(run) for run in runs]  # WGAN-GP, hinge, pairing
  assert lengths[0] == results.BUDGET_KIMG
  assert lengths[2] < results.BUDGET_KIMG < lengths[1]
  spent = [
    results.step_flops(run) * kimg
    for run, kimg in zip(runs, lengths, strict=True)
  ]
  assert spent == pytest.approx([spent[0]] * 3, rel=0.001)


def test_every_run_that_the_rows_choose_has_its_row():
  """So rates are chosen as they were; development seeds are not confirmed."""
  rows = jsonl.read(results.ROWS)
  runs = recipes.all_runs(rows)
  assert len({run.folder for run in runs}) == len(runs)
  assert {run.name for run in runs} <= {row["name"] for row in rows}
  for run in runs:
    assert (run.seed == recipes.TUNING_SEED) == (run.stage == "tune")


def test_a_run_that_another_command_has_gets_no_row(tmp_path, monkeypatch):
  monkeypatch.setattr(experiments, "RUNS", tmp_path)
  monkeypatch.setattr(experiments, "run_one", lambda _, run: {"name": run.name})
  rows = tmp_path / "rows.jsonl"
  experiment = experiments.Experiment("", rows, *[None] * 4)
  first, second = agreement.tuning_runs("cats", "progan")[:2]
  with folder_lock.locked(Path(f"{first.folder}.lock"), pytest.fail):
    assert experiments.add_row(experiment, [first, second])
    assert not experiments.add_row(experiment, [first])
  assert experiments.add_row(experiment, [first, second])
  assert experiments.add_row(experiment, [first, second])  # it has a row
  names = [row["name"] for row in jsonl.read(rows)]
  assert names == [second.name, first.name]


@pytest.mark.parametrize("network", ["progan", "stylegan"])
def test_the_best_arm_that_agrees_is_confirmed_on_fresh_seeds(network):
  tuned = agreement.tuning_runs("cats", network)
  configs = []
  for run in tuned:
    config = load_config("demo", "cats")
    config.update(run.fields)
    checks.validate(config, 1)
    configs.append(config.to_json())
  assert len({*configs}) == len(configs)  # no two arms are the same
  rows = [
    {"name": run.name, "arm": run.arm, "kid": {"4": place, "8": 0.0}}
    | {"agreement": {"4": 1.0, "8": 0.991}}
    for place, run in enumerate(tuned)
  ]
  rows[0]["kid"] = None  # it failed
  rows[1]["agreement"]["4"] = 0.98
  assert agreement.confirming_runs(rows[1:], "cats", network) == []
  confirmed = agreement.confirming_runs(rows, "cats", network)
  assert [run.arm for run in confirmed] == ["none", tuned[2].arm] * 5
  assert not {run.seed for run in confirmed} & {agreement.TUNING_SEED}
  assert len({run.name for run in confirmed + tuned}) == len(confirmed + tuned)


def test_the_arms_of_each_claim_differ_and_are_paired():
  parts = {}
  for run in claims.all_runs([]):
    parts.setdefault(run.part, []).append(run)
  for runs in parts.values():
    assert len({run.name for run in runs}) == len(runs)
    assert len({run.seed for run in runs}) * len({r.arm for r in runs}) == len(
      runs
    )
    first = [run for run in runs if run.seed == runs[0].seed]
    configs = []
    for run in first:
      settings = claims.settings(run)
      config = experiments.config_of(claims.argument(run), settings)
      checks.validate(config, 1)
      configs.append(config.to_json())
    assert len({*configs}) == len(configs)


def row_of_claim(run):
  """A made-up run: its KID by arm, with a slope by depth, and by rate."""
  side = run.fields.get("resolution", 32)
  rate = run.fields["learning_rate"]
  worse = {"all": 0, "none": 2}.get(run.arm.partition(" ")[0], 1)
  worse *= (run.network, run.arm) != ("stylegan", "cat_lin")
  kid = 1 + worse * side / 256 * (1 + 100 * rate) + run.seed / 1000
  cost = 1e9 if run.part.startswith("growing") else 2e9
  return run._asdict() | {
    "name": run.name,
    "kid": {str(side): kid},
    "kid_by_kimg": {"2": 3 * kid, "4": 2 * kid, "8": kid},
    "flops_by_kimg": {str(n): n * cost for n in (2, 4, 8)},
    "agreement_by_kimg": {"2": {"4": 0.95, "16": 0.99}},
    "stability_by_kimg": {
      kimg: {str(s): change * (1 + (cost < 2e9)) for s in (4, 8, 16, 32)}
      for kimg, change in (("4", 0.2), ("8", 0.1))
    },
    "train_secs": 60.0,
    "minutes": 2.0,
  }


def test_verdicts_follow_the_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(claims_page, "PLOT", tmp_path / "depth.svg")
  runs = claims.all_runs([])
  rows = [row_of_claim(run) for run in runs]

  def verdicts(rows):
    results = claims_page.Results(rows, runs)
    return {
      (claim.text, claim.where): claims_page.verdict(values)
      for claim in claims_page.CLAIMS
      if len(values := claim.values(results)) and any(values.values())
    }

  assert set(verdicts(rows).values()) == {claims_page.HOLDS}
  assert len(verdicts(rows)) == 14
  text = claims_page.text(rows, runs)
  assert "incomplete" not in text
  assert text.count("depth.svg") == 1 and (tmp_path / "depth.svg").exists()
  # At the FLOPs of ProGAN's 8 kimg, 4 kimg of MSG-ProGAN.
  ours, theirs = (
    next(row for row in rows if (row["part"], row["arm"], row["seed"]) == key)
    for key in ((*claims_page.PROGAN, 21), (*claims_page.MSG, 21))
  )
  equal = claims_page.at_equal_flops(
    claims_page.Results([ours, theirs], []),
    *(claims_page.PROGAN, claims_page.MSG),
  )
  assert equal == [pytest.approx(ours["kid"]["32"] - 2 * theirs["kid"]["32"])]
  # A failed run, and one that is missing.
  place = rows.index(ours)
  key = "MSG-ProGAN is better than ProGAN", "Tables 1, 2"
  failed = [*rows[:place], ours | {"kid": None}, *rows[place + 1 :]]
  for others in (failed, rows[:place] + rows[place + 1 :]):
    assert verdicts(others).get(key) is None
  rows = [
    row | {"kid": {"32": 0.0}} if row["part"] == "growing-progan" else row
    for row in rows
  ]
  assert verdicts(rows)[key] == claims_page.FAILS


def test_a_difference_counts_by_its_error_and_its_pairs():
  counts = lambda *values: experiments.difference(values).counts
  assert counts(1, 2, 3) and counts(9, 9, 9, 9, -1)
  assert not counts(9, 9, 9, -1) and not counts(9, 9, 9, -1, -1)
  assert not counts(1, 1, 50)  # twice the error is above the mean


def test_the_page_of_claims_is_that_of_its_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(claims_page, "PLOT", tmp_path / claims_page.PLOT.name)
  text = claims_page.text(jsonl.read(claims.ROWS), claims.all_runs([]))
  assert text in claims_page.PAGE.read_text()


def test_full_size_commands_have_the_figures_of_the_plans():
  plans = {plan["flags"]: plan for plan in jsonl.read(plan_table.PLANS)}
  text, wanted = plan_table.full_size(plans)
  assert text in claims_page.PAGE.read_text()
  assert len(wanted) == 2 * text.count("--config=configs/") == 38
