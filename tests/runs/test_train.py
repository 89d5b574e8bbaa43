"""Whole runs: files, resuming, sampling, bad input."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import msggan_jax
from msggan_jax.checkpoints import checkpoint
from msggan_jax.config import saved
from msggan_jax.config.resolve import resolve
from msggan_jax.training import batches, loop
from tests.conftest import load_config


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
  rows = (workdir / "stats.jsonl").read_text().splitlines()
  return [json.loads(row) for row in rows]


def test_a_run_resumes_byte_for_byte(config, tmp_path):
  """Train 4 = train 2, resume, train 2."""
  config.ema_averages = True
  whole = loop.train(config, tmp_path / "whole")

  config.total_kimg = 0.064
  loop.train(config, tmp_path / "halves")
  assert [row["step"] for row in stats(tmp_path / "halves")] == [1, 2]
  config.total_kimg = 0.128
  resumed = loop.train(config, tmp_path / "halves")

  for a, b in zip(
    jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  rows = [stats(tmp_path / workdir) for workdir in ("whole", "halves")]
  for whole_row, halves_row in zip(*rows, strict=True):
    for name in ("step", "d_loss", "g_loss", "gradient_penalty/8"):
      assert whole_row[name] == halves_row[name]
    assert whole_row.get("stability/8") == halves_row.get("stability/8")

  config.total_kimg = 0.064
  with pytest.raises(ValueError, match=r"0\.064, but .* for 0\.128 kimg"):
    loop.train(config, tmp_path / "halves")
  assert saved.load_config(tmp_path / "halves").total_kimg == 0.128

  check_what_a_run_leaves(tmp_path / "whole")
  check_sampling(tmp_path / "whole", whole)


def check_what_a_run_leaves(workdir):
  rows = stats(workdir)
  assert [row["step"] for row in rows] == [1, 2, 3, 4]
  for row in rows:
    assert row["kimg"] == row["step"] * 0.032
    assert all(np.isfinite(value) for value in row.values())
    assert {"gradient_penalty/4", "gradient_penalty/8"} <= set(row)
    assert row["images_per_sec"] > 0 and row["memory_bytes"] > 0
  assert ["stability/4" in row for row in rows] == [False, True, False, True]
  assert (workdir / "stability.png").is_file()
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
  for a, b in zip(
    jax.tree.leaves(generator.params),
    jax.tree.leaves(state.ema_params),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  z = generator.sample_latents(jax.random.key(0), 4)
  np.testing.assert_allclose(np.linalg.norm(z, axis=1), np.sqrt(8), rtol=1e-5)
  pyramid = generator(z)
  assert [x.shape for x in pyramid] == [(4, 4, 4, 3), (4, 8, 8, 3)]
  assert msggan_jax.to_uint8(pyramid[-1]).dtype == np.uint8
  discriminator = msggan_jax.load_discriminator(workdir)
  assert discriminator(pyramid).shape == (4,)
  made = msggan_jax.load_generator(workdir, ema_kimg=10.0)  # config.ema_kimg
  for a, b in zip(
    jax.tree.leaves(made.params), jax.tree.leaves(state.ema_params), strict=True
  ):
    difference = np.asarray(a) - np.asarray(b)
    assert np.linalg.norm(difference) <= 1e-5 * np.linalg.norm(b)
  older = msggan_jax.load_generator(workdir, step=2)
  assert not np.array_equal(older(z)[-1], pyramid[-1])
  with pytest.raises(FileNotFoundError, match=r"no checkpoint 3; .* \[2, 4\]"):
    msggan_jax.load_generator(workdir, step=3)


def test_a_workdir_of_another_configuration_is_refused(config, tmp_path):
  saved.save_config(config, tmp_path)
  config.combine = "cat_lin"
  config.learning_rate = 0.001
  config.total_kimg = 99.0
  with pytest.raises(ValueError) as error:
    resolve(config, jax.device_count(), workdir=tmp_path)
  assert "combine (there 'simple', here 'cat_lin')" in str(error.value)
  assert "learning_rate (there 0.003, here 0.001)" in str(error.value)
  assert "total_kimg" not in str(error.value)


def test_other_classes_of_a_holdout_are_refused(config, tmp_path):
  """Labels are numbers, which mean the same class only by the same names."""
  for folder, names in (("ours", "ab"), ("theirs", "bc")):
    for name in names:
      (tmp_path / folder / name).mkdir(parents=True)
      for i in range(2):
        image = Image.new("RGB", (8, 8), (ord(name), i, len(folder)))
        image.save(tmp_path / folder / name / f"{i}.png")
  config.num_classes = 2
  config.augment, config.augment_target = "exact", 0.5
  config.augment_holdout = str(tmp_path / "theirs")
  config.dataset.update(
    name="folder",
    path=str(tmp_path / "ours"),
    labels="folders",
    data_dir=str(tmp_path / "data"),
  )
  prepared = batches.open_set(config)
  with pytest.raises(ValueError, match="class 0 is 'b', but 'a' in the train"):
    batches.open_holdout(config, prepared)


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
  # They have no state.
  config.pyramid, config.agreement_weight = "exact", 1.0
  whole = loop.train(config, tmp_path / "whole")
  config.total_kimg = 0.064
  loop.train(config, tmp_path / "halves")
  config.total_kimg = 0.128
  resumed = loop.train(config, tmp_path / "halves")
  for a, b in zip(
    jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  rows = stats(tmp_path / "whole")
  assert all("augment_strength" in row for row in rows)


def test_a_run_of_before_a_field_existed_has_its_default(config, tmp_path):
  older = config.copy_and_resolve_references()
  for name in ("burn_in_kimg", "penalty_scales"):
    del older[name]
  # Fields that no longer exist are ignored.
  older.max_rollbacks, older.dataset.max_unreadable = 3, 0.001
  saved.save_config(older, tmp_path)
  saved.check_config(config, tmp_path)
  config.burn_in_kimg = 1.0
  with pytest.raises(ValueError, match=r"burn_in_kimg \(there 0.0, here 1.0"):
    saved.check_config(config, tmp_path)


@pytest.mark.parametrize(
  ("field", "value", "sentence"),
  [
    ("resolution", 24, "resolution is 24; it must be a power of two"),
    ("resolution", 2, "resolution is 2; choose a whole number from 4 to"),
    ("batch_size", 33, r"batch_size is 33; with 8 device\(s\)"),
    ("loss", "wgan", "loss is 'wgan'; choose one of wasserstein"),
    ("penalty", "gp", "penalty is 'gp'; choose one of none"),
    ("combine", "cat", "combine is 'cat'; choose one of simple"),
    ("connected_scales", "some", "connected_scales is 'some'; choose"),
    ("connected_scales", (4, 5), r"connected_scales is \[4, 5\]|\(4, 5\)"),
    ("learning_rate", 0.0, "learning_rate is 0.0; choose a number above 0"),
    ("metrics", "fid50k_full,fid50k_half", "there is no metric 'fid50k_half'"),
    ("inception_path", "nowhere.pth", "Inception's weights, not nowhere.pth"),
    ("extractor", "mean_colors", "extractor is 'mean_colors'; give module:f"),
    ("extractor_precision", "half", "extractor_precision is 'half'; choose"),
  ],
)
def test_impossible_values_are_refused(
  config, tmp_path, field, value, sentence
):
  config[field] = value
  with pytest.raises((ValueError, FileNotFoundError), match=sentence):
    loop.train(resolve(config, jax.device_count()), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_folder_of_mixed_images_trains(config, tmp_path):
  rng = np.random.default_rng(0)
  for i, (mode, size) in enumerate(
    [("RGB", (20, 9)), ("L", (8, 30)), ("RGBA", (16, 16)), ("P", (9, 9))]
  ):
    pixels = rng.integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    folder = tmp_path / "photos" / f"nested{i}"
    folder.mkdir(parents=True)
    Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
  config.dataset.name = "folder"
  config.dataset.path = str(tmp_path / "photos")
  config.penalty = "none"  # halves the compilation
  config.total_kimg = 0.032
  state = loop.train(config, tmp_path / "run")
  assert int(state.step) == 1


def test_cifar10_trains(tmp_path):
  """configs/cifar10.py on a mock of the TFDS set, narrowed for speed."""
  config = load_config("cifar10")
  config.dataset.data_dir = str(tmp_path / "data")
  config.latent_size, config.max_channels = 8, 4
  config.penalty = "none"  # halves the compilation; this tests the data
  config.total_kimg = 0.032
  pytest.importorskip("tensorflow")
  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=10, policy=policy):
    state = loop.train(config, tmp_path / "run")
  assert int(state.step) == 1


def test_importing_the_package_imports_little():
  code = (
    "import sys, msggan_jax; "
    "assert not {'flax', 'grain', 'orbax', 'PIL', 'scipy'} & set(sys.modules);"
    "msggan_jax.load_generator, msggan_jax.to_uint8, msggan_jax.losses"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_training_and_sampling_need_no_tensorflow(tmp_path):
  """Prepare, train and sample: TensorFlow is never imported.

  The tests are usually run where it is not even installed.
  """
  script = (
    "import atexit, os, runpy, sys; "
    "atexit.register(lambda: 'tensorflow' in sys.modules and os._exit(3)); "
    "from msggan_jax.data.sources import demo; "
    "demo._CAT_SPLITS = {'train': range(40)}; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
  )

  def run(command, *flags):
    flags = [flag.replace("TMP", str(tmp_path)) for flag in flags]
    done = subprocess.run(
      [sys.executable, "-c", script, f"msggan_jax.{command}", *flags],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr

  run(
    "main",
    "--config=configs/demo.py",
    "--config.resolution=4",
    "--config.max_channels=4",
    "--config.penalty=none",
    "--config.total_kimg=0.008",
    "--config.batch_size=8",
    "--config.log_kimg=0.008",
    "--config.eval_kimg=0",
    "--config.dataset.data_dir=TMP/data",
    "--workdir=TMP/run",
  )
  run("sample", "--workdir=TMP/run", "--output=TMP/images", "--seeds=0")
  assert [row["step"] for row in stats(tmp_path / "run")] == [1]
  assert (tmp_path / "images" / "4x4" / "seed0000.png").is_file()
