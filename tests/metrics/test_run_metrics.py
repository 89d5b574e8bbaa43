"""Metrics of a run that need labels or a hold-out."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from msggan_jax import data, metrics
from msggan_jax.metrics import protocols
from msggan_jax.models import networks
from tests.evaluating import EXTRACTOR

NUM_CATS = 90


@pytest.fixture
def config(tiny_config, tmp_path, monkeypatch):
  splits = {
    "train": range(NUM_CATS),
    "test": range(NUM_CATS, NUM_CATS + 20),
    "other": range(20),
  }
  monkeypatch.setattr("msggan_jax.data.sources.demo._CAT_SPLITS", splits)
  tiny_config.resolution = 8
  tiny_config.dataset.data_dir = str(tmp_path / "data")
  return tiny_config


def evaluator_of(config, names):
  path = data.prepare(config.dataset, config.resolution, config.channels)
  return metrics.Evaluator(
    config, data.open_prepared(path), metrics.Extractors("", EXTRACTOR), names
  )


def evaluate(config, names):
  evaluator = evaluator_of(config, names)
  weights = networks.make_generator(config).init(jax.random.key(0))
  return evaluator, evaluator.evaluate(*weights)


def test_copying_of_a_run(config, tmp_path):
  config.dataset.holdout = 30
  evaluator, values = evaluate(config, "copying_mean_colors_20")
  assert 0 <= values["copying_mean_colors_20"] <= 1
  assert "copying_mean_colors_20_z" in values
  json.dumps(evaluator.record(3, values), allow_nan=False)
  evaluator.write_sheets(tmp_path, 3)
  with Image.open(tmp_path / "copying_mean_colors_20" / "3.png") as sheet:
    assert sheet.size == (80, 16)
    below = np.asarray(sheet)[8:, :8]
  train = [image["image"] for image in evaluator._prepared]
  assert any((below == image).all() for image in train)
  (copying,) = evaluator.protocols
  assert not copying.higher_is_better
  assert "the hold-out" in copying.describe()


def test_of_a_large_hold_out_a_part_is_used(config):
  config.dataset.holdout = 60
  evaluator, values = evaluate(config, "copying_mean_colors_20")
  (holdout,) = evaluator._of_holdout.values()
  trained = len(evaluator._prepared)
  assert 20 < trained < len(evaluator._open_holdout())
  assert len(holdout.array) == trained
  assert 0 <= values["copying_mean_colors_20"] <= 1


def test_the_test_split_of_the_demo_is_a_hold_out(config):
  _, values = evaluate(config, "copying_mean_colors_20")
  holdout = config.dataset.copy_and_resolve_references()
  holdout.split = "test"
  path = data.prepare(holdout, config.resolution, config.channels)
  evaluator = evaluator_of(config, "copying_mean_colors_20")
  assert evaluator._open_holdout().path == path
  assert 0 <= values["copying_mean_colors_20"] <= 1


def test_metrics_per_class(config, tmp_path):
  random = np.random.RandomState(0)
  for i in range(60):
    folder = tmp_path / "photos" / ("red" if i < 40 else "blue")
    folder.mkdir(parents=True, exist_ok=True)
    color = random.randint(100, 255), random.randint(50), 0
    color = color if i < 40 else color[::-1]
    Image.new("RGB", (8, 8), color).save(folder / f"{i}.png")
  config.dataset.update(
    name="folder", path=str(tmp_path / "photos"), labels="folders"
  )
  config.num_classes = 2
  names = "kid_mean_colors_60_per_class,fd_mean_colors_60_per_class"
  evaluator, values = evaluate(config, names)
  for name in names.split(","):
    by_class = [values[f"{name}/blue"], values[f"{name}/red"]]
    assert values[name] == pytest.approx(np.mean(by_class))
  # Independent: the same fakes and reals of one class, compared directly.
  reals = np.stack(
    [x["image"] for x in evaluator._prepared if x["label"] == 0]
  ).mean(axis=(1, 2), dtype=np.float32)
  weights = networks.make_generator(config).init(jax.random.key(0))
  numbers = np.arange(64)
  evaluator._labels = np.resize(evaluator._labels, 64)
  fakes = np.asarray(evaluator._fakes_at(*weights, {8})(numbers)[8])[:60]
  fakes = fakes[evaluator._labels[:60] == 0].mean(axis=(1, 2), dtype=np.float32)
  expected = metrics.kernel_distance(reals / 255, fakes / 255)
  kid = values["kid_mean_colors_60_per_class/blue"]
  assert kid == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("copying_mean_colors_20", "has no hold-out; set config.dataset.holdout"),
    ("kid_mean_colors_20_per_class", "the generator is unconditional"),
    ("copying_mean_colors_20_full", "copying has no _full"),
    ("copying_mean_colors_20_per_class", "copying has no _per_class"),
  ],
)
def test_what_a_run_lacks_is_refused(config, name, message):
  config.dataset.split = "other"
  with pytest.raises(ValueError, match=message):
    evaluator_of(config, name)


def test_folders_have_no_such_metrics():
  extractors = metrics.Extractors("", EXTRACTOR)
  for name in ("copying_mean_colors", "kid_per_class"):
    assert protocols.parse(name, extractors.names)
    with pytest.raises(ValueError, match="only a run has it"):
      metrics.compare("a", "b", extractors, name)
