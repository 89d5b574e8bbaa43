"""Each rule on records made for it, and on sound ones."""

import types

from msggan_jax.reporting import records, verdict
from tests.reporting.written_runs import (
  METRIC,
  metrics_row,
  rows,
  stats_row,
  write_lines,
  write_run,
)

SOUND = "shows no warning"


def judged(workdir):
  """Return the rule that decides, and the sentences."""
  [run] = records.read([str(workdir)])
  kind, health, advice = verdict.judge(run)
  return types.SimpleNamespace(
    kind=kind, score=verdict.best_score(run), health=health, advice=advice
  )


def scores(*values):
  count = len(values)
  return [metrics_row(4 * (i + 1) / count, x) for i, x in enumerate(values)]


def test_a_sound_run(tmp_path):
  metrics = scores(0.4, 0.3, 0.2, 0.1)
  found = judged(write_run(tmp_path / "run", metrics=metrics))
  assert found.kind == SOUND
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


def test_trends_of_scores(tmp_path):
  workdir = write_run(tmp_path / "run")
  for values, spread, kind, advice in (
    ((0.4, 0.2, 0.4), 0, SOUND, "Try wider networks"),  # one is not a trend
    ((0.4, 0.2, 0.3, 0.21), 0, SOUND, "Try wider networks"),
    ((0.4, 0.2, 0.3, 0.31), 0.06, SOUND, "Try wider networks"),  # noise
    ((0.4, 0.2, 0.3, 0.4), 0, "worsens", "the checkpoint of 2 kimg."),
    ((), 0, SOUND, "Evaluate more often"),
  ):
    error = {f"{METRIC}_error": spread}
    metrics = [row | error for row in scores(*values)]
    write_lines(workdir / "metrics.jsonl", metrics)
    found = judged(workdir)
    assert found.kind == kind
    assert advice in found.advice
    assert values or "There is no score: evaluations" in found.score


def test_a_run_in_the_middle_goes_on(tmp_path):
  for kimg, kind, left in (
    (3.0, SOUND, "20s"),
    (0.2, "is too young to judge", "1m 16s"),
  ):
    stats = [row for row in rows() if row["kimg"] <= kimg]
    found = judged(write_run(tmp_path / kind, stats=stats, metrics=[]))
    assert found.kind == kind
    assert f" to 4 kimg, about {left} at 50 images/s" in found.advice
    assert kimg < 1 or "overfitting cannot be judged" in found.health


def test_a_collapse(tmp_path):
  def write(diversity, until):
    stats = [row | {"diversity": diversity} for row in rows()]
    for row in stats[until:]:
      del row["diversity"]
    write_lines(workdir / "stats.jsonl", stats)

  workdir = write_run(tmp_path / "run", config={"penalty": "none"})
  write(0.2, until=40)
  found = judged(workdir)
  assert found.kind == "collapses"
  assert "It collapses: at 4 kimg" in found.health
  assert "only 0.20 times as much" in found.health
  assert "config.penalty=gradient_penalty" in found.advice
  write(0.6, until=40)
  assert "collapses in part" in judged(workdir).health
  write(0.0, until=1)  # it had just begun
  assert judged(workdir).kind == SOUND


def test_a_divergence(tmp_path):
  stats = [*rows()[:-4], *(row | {"g_loss": 5e4} for row in rows()[-4:])]
  found = judged(write_run(tmp_path / "run", stats=stats))
  assert found.kind == "diverges"
  assert "g_loss is 50,000 in the last 5 log rows, 10000 times" in found.health
  assert "config.learning_rate=0.0015" in found.advice
  grows = {"grow_learning_rates": "8:0.002"}  # of which that rate is no part
  workdir = write_run(tmp_path / "grows", stats=stats, config=grows)
  assert "rate and config.grow_learning_rates)" in judged(workdir).advice


def test_overfitting(tmp_path):
  stats = [row | {"real_logits": row["kimg"]} for row in rows()]
  metrics = scores(0.4, 0.2, 0.3, 0.4)
  workdir = write_run(tmp_path / "run", stats=stats, metrics=metrics)
  write_lines(workdir / "best.json", [{"step": 250, "metric": METRIC}])
  found = judged(workdir)
  assert found.kind == "overfits"
  assert "went from 0.2 at 2 kimg to 0.4" in found.health
  assert "generated images from 4 to 5.8" in found.health
  assert "checkpoint of 2 kimg (--step=best)" in found.advice
  assert "config.mirror=True" in found.advice


def test_a_run_that_gave_up(tmp_path):
  attempt = {"step": 500, "not_finite": ["d_loss", "g/kernel"]}
  for precision, attempts, advice in (
    ("bfloat16", 1, "--new_randomness"),
    ("bfloat16", 2, "precision=float32"),
    ("float32", 2, "learning_rate=0.0015"),
  ):
    workdir = write_run(tmp_path / advice, config={"precision": precision})
    report = {"attempts": [attempt] * attempts}
    write_lines(workdir / "not_finite.json", [report])
    found = judged(workdir)
    assert found.kind == "gave up"
    assert "NaN or Inf in d_loss and g/kernel." in found.health
    assert advice in found.advice
  write_lines(workdir / "not_finite.json", [report | {"continued": True}])
  assert judged(workdir).kind == SOUND


def test_waiting_for_data(tmp_path):
  stats = [stats_row(4 * (i + 1) / 40, **{"secs/data": 40}) for i in range(40)]
  found = judged(write_run(tmp_path / "run", stats=stats))
  assert "waited for data in 50% of its time" in found.advice


def test_only_scores_of_the_same_protocol_count(tmp_path):
  metrics = scores(0.01, 0.4, 0.3)
  metrics[0]["data_hash"] = "another"
  found = judged(write_run(tmp_path / "other_data", metrics=metrics))
  assert "is 0.3 at 4 kimg, of 2 evaluations" in found.score
  own = metrics_row(4.0, 0.5, "fd_mine_10k_full") | {
    "weights_hash": {"mine": None}  # an extractor of one's own
  }
  found = judged(write_run(tmp_path / "own", metrics=[own]))
  assert found.score.startswith("The best fd_mine_10k_full is 0.5 at 4 kimg")
  other = metrics_row(4.0, 0.5, "copying_efficientnet_lite0_200")
  metrics = [*scores(0.4, 0.3), other]  # as `evaluate` adds it at the end
  found = judged(write_run(tmp_path / "later", metrics=metrics))
  assert "is 0.3 at 4 kimg, of 2 evaluations" in found.score
  run = write_run(tmp_path / "default", config={"metrics": ""}, metrics=metrics)
  write_lines(run / "best.json", [{"step": 500, "metric": METRIC}])
  assert judged(run).score == found.score
  name = "is_efficientnet_lite0_200"
  metrics = [metrics_row(k, v, name) for k, v in ((2.0, 9.0), (4.0, 6.0))]
  config = {"metrics": name}
  found = judged(write_run(tmp_path / "is", config=config, metrics=metrics))
  assert "is 9 at 2 kimg, of 2 evaluations (higher" in found.score
