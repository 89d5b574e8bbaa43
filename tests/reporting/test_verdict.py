"""Each rule on records made for it, and on sound ones."""

import pytest

from msggan_jax.reporting import records, verdict
from msggan_jax.reporting.advice import Kind
from tests.reporting.written_runs import (
  METRIC,
  metrics_row,
  rows,
  stats_row,
  write_lines,
  write_run,
)

DIVERSE = [(0.0, 3.0), (2.0, 1.1), (4.0, 0.95)]


def judged(workdir, diversity=DIVERSE):
  [run] = records.read([str(workdir)])
  return verdict.judge(run, diversity)


def scores(*values):
  """Return rows of metrics.jsonl with these values, evenly until 4 kimg."""
  count = len(values)
  return [metrics_row(4 * (i + 1) / count, x) for i, x in enumerate(values)]


def changed_rows(name, value, last):
  """Return rows whose last ones have another value."""
  made = rows()
  for row in made[-last:]:
    row[name] = value
  return made


def test_a_sound_run(tmp_path):
  found = judged(
    write_run(tmp_path / "run", metrics=scores(0.4, 0.3, 0.2, 0.1))
  )
  assert found.kind is Kind.SOUND
  assert found.score == (
    f"The best {METRIC} is 0.1 at 4 kimg, of 4 evaluations (lower is better; "
    "200 fakes against as many reals)."
  )
  assert found.health.startswith("It neither overfits nor collapses:")
  assert "0.95 times as much" in found.health
  assert found.advice == (
    "Train longer with --config.total_kimg=8, because the score still went "
    "from 0.3 at 2 kimg to 0.1."
  )


def test_a_settled_run_is_measured_better(tmp_path):
  workdir = write_run(tmp_path / "run", metrics=scores(0.4, 0.2, 0.201, 0.199))
  found = judged(workdir)
  assert found.kind is Kind.SOUND
  assert found.advice.startswith("Evaluate with more than 200 fakes")


@pytest.mark.parametrize("kimg", [3.0, 0.2])
def test_a_run_in_the_middle_goes_on(tmp_path, kimg):
  stats = [row for row in rows() if row["kimg"] <= kimg]
  found = judged(write_run(tmp_path / "run", stats=stats, metrics=[]), [])
  assert found.kind is (Kind.SOUND if kimg > 1 else Kind.EARLY)
  left = "20s" if kimg > 1 else "1m 16s"
  assert f"Let it go on to 4 kimg, about {left} at 50 images" in found.advice
  if kimg < 1:
    assert (
      "first evaluation follows at 1 kimg, and the run is at" in found.score
    )
  else:
    assert "overfitting cannot be judged" in found.health


def test_a_collapse(tmp_path):
  workdir = write_run(tmp_path / "run", config={"penalty": "none"})
  found = judged(workdir, [*DIVERSE[:2], (4.0, 0.2)])
  assert found.kind is Kind.COLLAPSES
  assert "It collapses: at 4 kimg" in found.health
  assert "only 0.20 times as much" in found.health
  assert "config.penalty=gradient_penalty" in found.advice
  assert "collapses in part" in judged(workdir, [(4.0, 0.6)]).health
  assert judged(workdir, [(0.1, 0.0)]).kind is Kind.SOUND  # it has just begun


def test_a_divergence(tmp_path):
  stats = changed_rows("g_loss", 5e4, last=4)
  found = judged(write_run(tmp_path / "run", stats=stats))
  assert found.kind is Kind.DIVERGES
  assert "g_loss is 50,000 in the last 5 log rows, 10000 times" in found.health
  assert "config.learning_rate=0.0015" in found.advice


def test_overfitting(tmp_path):
  stats = rows()
  for row in stats:
    row["real_logits"] = row["kimg"]
  workdir = write_run(
    tmp_path / "run", stats=stats, metrics=scores(0.4, 0.2, 0.3, 0.4)
  )
  write_lines(workdir / "best.json", [{"step": 250, "metric": METRIC}])
  found = judged(workdir)
  assert found.kind is Kind.OVERFITS
  assert "went from 0.2 at 2 kimg to 0.4" in found.health
  assert "generated images from 4 to 5.8" in found.health
  assert "checkpoint of 2 kimg (--step=best)" in found.advice
  assert "config.mirror=True" in found.advice


def test_worse_scores_without_overfitting(tmp_path):
  workdir = write_run(tmp_path / "run", metrics=scores(0.4, 0.2, 0.3, 0.4))
  assert judged(workdir).kind is Kind.WORSENS


@pytest.mark.parametrize("values", [(0.4, 0.2, 0.4), (0.4, 0.2, 0.3, 0.21)])
def test_one_bad_score_is_no_trend(tmp_path, values):
  workdir = write_run(tmp_path / "run", metrics=scores(*values))
  assert judged(workdir).kind is Kind.SOUND


def test_noise_is_no_trend(tmp_path):
  metrics = scores(0.4, 0.2, 0.3, 0.31)
  metrics[0][f"{METRIC}_subsets_error"] = 0.06
  assert judged(write_run(tmp_path / "run", metrics=metrics)).kind is Kind.SOUND


def test_unsteadiness(tmp_path):
  stats = changed_rows("stability/8", 0.9, last=1)
  found = judged(write_run(tmp_path / "run", stats=stats))
  assert found.kind is Kind.UNSTEADY
  assert "changed by 0.9 (mean square), " in found.health


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_gave_up(tmp_path, precision):
  workdir = write_run(tmp_path / "run", config={"precision": precision})
  attempts = [{"step": 500, "not_finite": ["d_loss", "g/kernel"]}] * 4
  write_lines(workdir / "not_finite.json", [{"attempts": attempts}])
  found = judged(workdir)
  assert found.kind is Kind.GAVE_UP
  assert "NaN or Inf in d_loss and g/kernel, 4 times in a row" in found.health
  wanted = "precision=float32" if precision != "float32" else "rate=0.0015"
  assert wanted in found.advice


def test_waiting_for_data(tmp_path):
  stats = [stats_row(4 * (i + 1) / 40, **{"secs/data": 40}) for i in range(40)]
  found = judged(write_run(tmp_path / "run", stats=stats))
  assert "waited for data in 50% of its time" in found.advice


def test_scores_of_other_data_do_not_count(tmp_path):
  metrics = scores(0.01, 0.4, 0.3)
  metrics[0]["data_hash"] = "another"
  found = judged(write_run(tmp_path / "run", metrics=metrics))
  assert "is 0.3 at 4 kimg, of 2 evaluations" in found.score


def test_an_extractor_of_ones_own_counts(tmp_path):
  metrics = [metrics_row(4.0, 0.5, "fd_mine_10k_full")]
  metrics[0]["weights_hash"] = {"mine": None}  # it has no hash
  found = judged(write_run(tmp_path / "run", metrics=metrics))
  assert found.score.startswith("The best fd_mine_10k_full is 0.5 at 4 kimg")


def test_higher_can_be_better(tmp_path):
  name = "is_efficientnet_lite0_200"
  metrics = [metrics_row(k, v, name) for k, v in ((2.0, 9.0), (4.0, 6.0))]
  workdir = write_run(
    tmp_path / "run", config={"metrics": name}, metrics=metrics
  )
  assert "is 9 at 2 kimg, of 2 evaluations (higher" in judged(workdir).score


def test_no_evaluation_is_explained(tmp_path):
  for every, reason in ((0.0, "eval_kimg is 0."), (1.0, "no feature network")):
    workdir = write_run(
      tmp_path / str(every), config={"eval_kimg": every}, metrics=[]
    )
    found = judged(workdir)
    assert reason in found.score
    assert found.advice.startswith("Evaluate more often")
