"""Whole runs: files, resuming, sampling, bad input."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import msggan_jax
from msggan_jax import data, metrics
from msggan_jax.checkpoints import checkpoint
from msggan_jax.config import saved
from msggan_jax.config.resolve import resolve
from msggan_jax.runtime import jsonl
from msggan_jax.training import loop
from tests.algorithm.runs import assert_equal, assert_same, numbers_of


@pytest.fixture
def config(tiny_config):
  """Four steps at 8x8, on all eight devices."""
  tiny_config.resolution = 8
  tiny_config.total_kimg = 0.128  # 4 steps
  tiny_config.log_kimg = 0.032
  tiny_config.sample_kimg = 0.064
  tiny_config.snapshot_kimg = 0.064
  return tiny_config


def stats(workdir):
  return jsonl.read(workdir / "stats.jsonl")


def test_a_run_resumes_byte_for_byte(config, tmp_path):
  """Train 4 = train 2, resume, train 2, also if an evaluation was lost."""
  config.ema_averages = True
  config.eval_kimg = 0.064
  config.extractor = "tests.golden_metrics.mean_colors:mean_colors"
  config.metrics = "fd_mean_colors_64_full,kid_mean_colors_32"
  whole = loop.train(config, tmp_path / "whole")
  evaluated = jsonl.read(tmp_path / "whole/metrics.jsonl")

  config.total_kimg = 0.064
  loop.train(config, tmp_path / "halves")
  assert [row["step"] for row in stats(tmp_path / "halves")] == [1, 2]
  future = {**evaluated[0], "step": 9, "fd_mean_colors_64_full": 0.0}
  lines = json.dumps(future) + "\n" + '{"kimg": 1.0}\n{"st'
  (tmp_path / "halves/metrics.jsonl").write_text(lines)
  config.total_kimg = 0.128
  resumed = loop.train(config, tmp_path / "halves")

  assert_equal(whole, resumed)
  assert numbers_of(tmp_path / "whole") == numbers_of(tmp_path / "halves")

  config.total_kimg = 0.064
  with pytest.raises(ValueError, match=r"0\.064, but .* for 0\.128 kimg"):
    loop.train(config, tmp_path / "halves")
  assert saved.load_config(tmp_path / "halves").total_kimg == 0.128

  check_what_a_run_leaves(tmp_path / "whole")
  check_sampling(tmp_path / "whole", whole)
  check_evaluations(config, evaluated, tmp_path / "whole")
  resumed = jsonl.read(tmp_path / "halves/metrics.jsonl")
  for row, other in zip(evaluated, resumed, strict=True):
    assert row | {"secs": 0} == other | {"secs": 0}
  best = [tmp_path / name / "best.json" for name in ("whole", "halves")]
  assert best[0].read_bytes() == best[1].read_bytes()


def check_what_a_run_leaves(workdir):
  rows = stats(workdir)
  assert [row["step"] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    assert row["kimg"] == row["step"] * 0.032
    assert all(np.isfinite(value) for value in row.values())
    assert {"gradient_penalty/4", "gradient_penalty/8"} <= set(row)
    assert row["images_per_sec"] > 0 and row["memory_bytes"] > 0
  assert ["stability/4" in row for row in rows] == [False, True, False, True]
  for folder, side in (("4x4", 4), ("8x8", 8)):
    names = [p.name for p in sorted((workdir / "samples" / folder).iterdir())]
    assert names == ["000000.000.png", "000000.064.png", "000000.128.png"]
    with Image.open(workdir / "samples" / folder / names[0]) as grid:
      assert grid.size == (8 * side, 8 * side)
  assert (workdir / "samples" / "scales" / "000000.000.png").is_file()
  assert (workdir / "reals.png").is_file()
  assert list((workdir / "tensorboard").glob("events*"))
  assert checkpoint.Checkpoints(workdir / "checkpoints").steps == [2, 4]


def check_sampling(workdir, state):
  generator = msggan_jax.load_generator(workdir)
  assert_equal(generator.params, state.ema_params)
  z = generator.sample_latents(jax.random.key(0), 4)
  np.testing.assert_allclose(np.linalg.norm(z, axis=1), np.sqrt(8), rtol=1e-5)
  pyramid = generator(z)
  assert [x.shape for x in pyramid] == [(4, 4, 4, 3), (4, 8, 8, 3)]
  assert msggan_jax.to_uint8(pyramid[-1]).dtype == np.uint8
  discriminator = msggan_jax.load_discriminator(workdir)
  assert discriminator(pyramid).shape == (4,)
  made = msggan_jax.load_generator(workdir, ema_kimg=10.0)  # config.ema_kimg
  assert_same(made.params, state.ema_params, tolerance=1e-5)
  older = msggan_jax.load_generator(workdir, step=2)
  assert not np.array_equal(older(z)[-1], pyramid[-1])
  with pytest.raises(FileNotFoundError, match=r"no checkpoint 3; .* \[2, 4\]"):
    msggan_jax.load_generator(workdir, step=3)


def check_evaluations(config, rows, workdir):
  assert [row["step"] for row in rows] == [2, 4]
  prepared = data.open_prepared(data.prepare(config))
  evaluator = metrics.make_evaluator(config, prepared, *metrics.choose(config))
  generator = msggan_jax.load_generator(workdir, 4)
  values = evaluator.evaluate(generator.params, generator.state)
  for name in (first := "fd_mean_colors_64_full"), "kid_mean_colors_32":
    np.testing.assert_allclose(rows[1][name], values[name], rtol=1e-4)
  best = json.loads((workdir / "best.json").read_text())
  assert best["metric"] == first
  assert best["value"] == min(row[first] for row in rows)


@pytest.mark.slow
def test_a_run_with_held_out_images_resumes_byte_for_byte(
  config, tmp_path, monkeypatch
):
  monkeypatch.setattr(
    "msggan_jax.data.sources.demo._CAT_SPLITS",
    {"train": range(100), "test": range(100, 140)},
  )
  config.dataset.name = "cats"
  config.dataset.data_dir = str(tmp_path / "data")
  config.augment, config.augment_target = "exact", 0.5
  config.augment_kimg = 0.1
  config.augment_holdout = "train"
  with pytest.raises(ValueError, match="'train', which is the training set"):
    loop.train(config, tmp_path / "refused")
  config.augment_holdout = "test"
  config.pyramid = "exact"  # it has no state
  whole = loop.train(config, tmp_path / "whole")
  config.total_kimg = 0.064
  loop.train(config, tmp_path / "halves")
  config.total_kimg = 0.128
  resumed = loop.train(config, tmp_path / "halves")
  assert_equal(whole, resumed)
  rows = stats(tmp_path / "whole")
  assert all("augment_strength" in row for row in rows)


def test_a_workdir_of_another_configuration_is_refused(config, tmp_path):
  older = config.copy_and_resolve_references()
  for name in ("base_grid", "burn_in_kimg", "penalty_scales"):
    del older[name]
  # Fields that no longer exist are ignored.
  older.max_rollbacks, older.dataset.max_unreadable = 3, 0.001
  saved.save_config(older, tmp_path)
  assert saved.load_config(tmp_path).base_grid == "4x4"
  saved.check_config(config, tmp_path)
  config.combine = "cat_lin"
  config.burn_in_kimg = 1.0  # a field that is newer than the run
  config.total_kimg = 99.0
  with pytest.raises(ValueError) as error:
    resolve(config, jax.device_count(), workdir=tmp_path)
  assert "burn_in_kimg (there 0.0, here 1.0)" in str(error.value)
  assert "combine (there 'simple', here 'cat_lin')" in str(error.value)
  assert "total_kimg" not in str(error.value)


def test_other_fields_may_follow_a_run_that_has_not_begun(config, tmp_path):
  """Such as one that was refused, or had too little memory."""
  saved.save_config(config, tmp_path)
  (tmp_path / saved.STARTING).write_text("")
  config.burn_in_kimg = 1.0
  saved.check_config(config, tmp_path)
  for name in ("checkpoints/0", "stats.jsonl"):
    kept = tmp_path / name
    kept.mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a run of another conf"):
      saved.check_config(config, tmp_path)
    kept.rmdir()
  (tmp_path / "checkpoints/0").mkdir()
  (tmp_path / "config.json").unlink()
  with pytest.raises(ValueError, match="has checkpoints, but no config.json"):
    saved.check_config(config, tmp_path)


def test_impossible_metrics_end_a_run_before_any_work(config, tmp_path):
  config.metrics = "fid50k_full,fid50k_half"
  with pytest.raises(ValueError, match="there is no metric 'fid50k_half'"):
    loop.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_importing_the_package_imports_little():
  code = (
    "import sys, msggan_jax; "
    "assert not {'flax', 'grain', 'orbax', 'PIL', 'scipy'} & set(sys.modules);"
    "msggan_jax.load_generator, msggan_jax.to_uint8, msggan_jax.losses"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
