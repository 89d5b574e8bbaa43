"""The experiments' budgets and the choice of what is confirmed."""

import pytest

from benchmarks import agreement, claims, experiments, recipes, results
from msggan_jax.config import checks
from tests.conftest import load_config


def row(arm, rate, score, part="recipe-cats-progan", stage="tune"):
  fields = {"learning_rate": rate}
  return {
    "part": part,
    "stage": stage,
    "arm": arm,
    "kid": score and {"4": score, "8": score + 0.5, "16": score - 0.5},
    "fields": fields,
  }


def test_a_rate_is_chosen_when_all_have_ended():
  rows = [
    row("WGAN-GP", rate, kid) for rate, kid in ((0.003, 0.3), (0.006, 0.1))
  ]
  part = "recipe-cats-progan"
  assert recipes.best_rate(rows, part, "WGAN-GP") is None
  rows.append(row("WGAN-GP", 0.012, score=None))  # it failed
  assert recipes.best_rate(rows, part, "WGAN-GP") == 0.006
  confirming = [
    run
    for run in recipes.recipe_runs(rows, "cats", "progan")
    if run.stage == "confirm"
  ]
  assert [run.seed for run in confirming] == list(recipes.SEEDS)
  assert {run.fields["learning_rate"] for run in confirming} == {0.006}


def test_the_residual_networks_differ_in_their_networks_alone():
  run = recipes.residual_runs([])[0]
  ours = results.config_of(run)
  theirs = results.config_of(run._replace(network="progan"))
  differing = {name for name in ours if ours[name] != theirs[name]}
  networks = {"model", "combine", "stddev_placement"}
  assert differing - networks <= {"total_kimg", "metrics"}


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


def test_names_are_unique_and_development_seeds_are_not_confirmed():
  rows = [
    row(arm, rate, rate, part=f"recipe-{source}-{network}")
    for source in ("cats", "earth")
    for network in ("progan", "stylegan")
    for arm in recipes.RECIPES
    for rate in recipes.RATES
  ]
  rows += [
    row(arm, 0.003, score, part=f"few-{num}")
    for num in (100, 1000)
    for score, arm in enumerate(recipes.AUGMENTATIONS, 1)
  ]
  runs = recipes.all_runs(rows)
  assert len({run.name for run in runs}) == len(runs)
  assert len({run.folder for run in runs}) == len(runs)
  for run in runs:
    assert (run.seed == recipes.TUNING_SEED) == (run.stage == "tune")


def test_a_part_is_not_the_beginning_of_another():
  assert experiments.belongs("few-100", "few-100")
  assert experiments.belongs("recipe-cats-progan", "recipe-cats")
  assert not experiments.belongs("few-1000", "few-100")


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
      config = load_config("demo", claims.argument(run))
      fields = claims.COMMON | run.fields
      with config.ignore_type():
        config.update_from_flattened_dict(fields)
      checks.validate(config, 1)
      configs.append(config.to_json())
    assert len({*configs}) == len(configs)
