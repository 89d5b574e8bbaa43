"""Evaluation during training and its files."""

import json
from pathlib import Path

import pytest

import msggan_jax
from msggan_jax import metrics
from msggan_jax.checkpoints import checkpoint
from msggan_jax.runtime import jsonl, preemption
from msggan_jax.training import events, loop
from tests.algorithm.runs import assert_equal
from tests.conftest import load_config

NAME = "fd_mean_colors_64_full"


@pytest.fixture
def config(quick_config):
  """Four steps, evaluated after every second."""
  quick_config.eval_kimg, quick_config.metrics = 0.064, NAME
  quick_config.extractor = "tests.golden_metrics.mean_colors:mean_colors"
  return quick_config


def test_the_last_step_is_evaluated(config):
  config.eval_kimg = 0.096
  schedule = events.Schedule(config)
  due = [events.EVALUATE in schedule.due(i, False) for i in range(1, 5)]
  assert due == [False, False, True, True]
  for never in (0.0, 0.2):
    config.eval_kimg = never
    assert events.EVALUATE not in events.Schedule(config).due(4, False)
  config.total_kimg = 0.001
  with pytest.raises(ValueError, match="0.001, not one batch of 32; choose"):
    events.Schedule(config).check(0, Path("run"))


def test_a_signal_ends_an_evaluation(config, tmp_path, monkeypatch):
  """It comes during step 2's evaluation; the next session repeats that."""
  run, evaluate = tmp_path / "run", metrics.Evaluator.evaluate

  def signalled(*arguments):
    with monkeypatch.context() as patch:
      patch.setattr(preemption.Preemption, "reached", lambda _: True)
      return evaluate(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Evaluator, "evaluate", signalled)
    with pytest.raises(preemption.Stopped, match="at step 2,"):
      loop.train(config, run)
  assert not (run / "metrics.jsonl").exists()
  assert checkpoint.Checkpoints(run / "checkpoints").steps == [2]
  loop.train(config, run)
  rows = jsonl.read(run / "metrics.jsonl")
  assert [row["step"] for row in rows] == [2, 4]


def test_the_best_checkpoint_stays(config, tmp_path, monkeypatch):
  values = iter([3.0, 1.0, 2.0, 4.0, 0.5])
  monkeypatch.setattr(
    metrics.Evaluator, "evaluate", lambda *_: {NAME: next(values)}
  )
  run = tmp_path / "run"
  config.eval_kimg = 0.032
  config.keep = 1
  loop.train(config, run)
  assert checkpoint.Checkpoints(run / "checkpoints").steps == [2, 4]
  best, same = (msggan_jax.load_generator(run, step) for step in ("best", 2))
  assert_equal(best.params, same.params)

  config.total_kimg = 0.160
  loop.train(config, run)
  assert json.loads((run / "best.json").read_text()) == {
    "step": 5,
    "metric": NAME,
    "value": 0.5,
  }
  # Killed before it was marked; the old one goes with the next save.
  (run / "best.json").unlink()
  loop.train(config, run)
  assert json.loads((run / "best.json").read_text())["step"] == 5
  assert checkpoint.Checkpoints(run / "checkpoints").steps == [2, 5]


def test_without_weights_training_goes_on(
  config, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr("msggan_jax.metrics.efficientnet._PACKAGE", "no-such")
  config.metrics, config.extractor = "", ""
  config.total_kimg, config.eval_kimg = 0.032, 0.032
  loop.train(config, tmp_path / "run")
  assert loop.WITHOUT_WEIGHTS in capsys.readouterr().out
  assert not (tmp_path / "run" / "metrics.jsonl").exists()
  with pytest.raises(FileNotFoundError, match="eval_kimg mark one"):
    msggan_jax.load_generator(tmp_path / "run", "best")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("kid_efficientnet_lite0_200", "pip install"),
    (f"{NAME}/2", "has the scales 4"),
    ("copying_mean_colors_20", "no hold-out"),
    ("kid_mean_colors_20_per_class", "unconditional"),
  ],
)
def test_impossible_metrics_are_refused_before_a_set_is_prepared(
  config, tmp_path, monkeypatch, name, message
):
  monkeypatch.setattr("msggan_jax.metrics.efficientnet._PACKAGE", "no-such")
  config.dataset.data_dir = str(tmp_path / "data")
  config.metrics = name
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    loop.train(config, tmp_path / "run")
  assert not list(tmp_path.iterdir())


def test_the_demo_is_evaluated():
  for name in ("cats", "earth"):
    config = load_config("demo", name)
    _, names = metrics.choose(config)
    assert names == ["kid_efficientnet_lite0_1000"]
    assert config.total_kimg % config.eval_kimg == 0
