"""Evaluating runs."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from msggan_jax import data, metrics
from msggan_jax.checkpoints import checkpoint
from msggan_jax.config import saved
from msggan_jax.data import run_data
from msggan_jax.metrics import (
  agreement,
)
from msggan_jax.models import networks
from tests.commands import EXTRACTOR, run_command
from tests.golden_metrics.mean_colors import mean_colors

NUM_IMAGES = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with noise of two tints, a third of it blue, and prepared sets."""
  folder = tmp_path_factory.mktemp("evaluated")
  random = np.random.RandomState(0)
  for i in range(NUM_IMAGES):
    tint = "blue" if i % 3 == 0 else "red"
    pixels = random.randint(0, 256, (8, 8, 3)) * [[[1, 0.4, 0.1]]]
    pixels = pixels[..., ::-1] if tint == "blue" else pixels
    path = folder / "images" / tint / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
  return folder


@pytest.fixture
def config(tiny_config, folder):
  tiny_config.resolution = 8
  tiny_config.dataset.update(
    name="folder",
    path=str(folder / "images"),
    labels="folders",
    data_dir=str(folder / "data"),
  )
  return tiny_config


def prepare(config):
  path = data.prepare(config)
  return data.open_prepared(path)


prepared = pytest.fixture(prepare, name="prepared")


def evaluator_of(config, prepared, names):
  extractors = metrics.Extractors(user=EXTRACTOR)
  return metrics.Evaluator(config, prepared, extractors, names)


def make_weights(config):
  generator = networks.make_generator(config)
  return jax.jit(generator.init)(jax.random.key(0))


NAMES = (
  "fd_mean_colors_64_full,kid_mean_colors_40,fd_mean_colors_64_full/4,"
  "pr_mean_colors_64,fd_mean_colors_64_official"
)


def test_evaluator_and_the_command(config, prepared, folder):
  """Numbers as by hand; the command has them, on one device, of all steps."""
  weights = make_weights(config)
  evaluator = evaluator_of(config, prepared, NAMES)
  values = evaluator.evaluate(*weights)
  parts = {
    "pr_mean_colors_64": "pr_mean_colors_64_precision,pr_mean_colors_64_recall",
    "kid_mean_colors_40": "kid_mean_colors_40,kid_mean_colors_40_error",
  }
  expected = ",".join(parts.get(name, name) for name in NAMES.split(","))
  expected += ",agreement,agreement/4,agreement_rmse/4"
  assert ",".join(values) == expected
  assert all(np.isfinite(value) for value in values.values())
  assert evaluator.evaluate(*weights) == values
  row = json.loads(json.dumps(evaluator.record(5, values)))
  assert row["kimg"] == 0.16
  assert row["data_hash"] == prepared.metadata.content_hash
  assert row["weights_hash"] == {"mean_colors": "none"}
  assert "all reals" in row["protocols"]["fd_mean_colors_64_full"]

  images = np.stack([image["image"] for image in prepared])
  small = images.reshape(NUM_IMAGES, 4, 2, 4, 2, 3).mean(axis=(2, 4))
  pyramid = evaluator._fakes_at(*weights)(np.arange(64))
  for fakes in pyramid.values():
    assert isinstance(fakes, jax.Array) and fakes.dtype == np.uint8
  # Averages of four pixels often lie between two levels: either is right.
  for scale, name, tolerance in ((8, "", 1e-4), (4, "/4", 1e-2)):
    expected = metrics.frechet_distance(
      mean_colors(images if scale == 8 else np.rint(small)),
      mean_colors(pyramid[scale]),
    )
    actual = values[f"fd_mean_colors_64_full{name}"]
    np.testing.assert_allclose(actual, expected, rtol=tolerance)

  found = agreement.measure([evaluator._fakes_at(*weights)(np.arange(256))])
  for name, value in found.items():
    np.testing.assert_allclose(values[name], value, rtol=1e-3)
  assert "256 fakes" in row["protocols"]["agreement"]

  # The command: of all steps.
  workdir = folder / "run"
  saved.save_config(config, workdir)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    for step, scale in ((1, 2), (4, 1)):
      params = jax.tree.map(lambda x, scale=scale: x * scale, weights[0])
      tree = {"ema_params": params, "ema_state": weights[1]}
      checkpoints.save(step, tree)
  data_dir = f"--data_dir={config.dataset.data_dir}"
  flags = ("evaluate", f"--workdir={workdir}", f"--extractor={EXTRACTOR}")
  flags += ("--json",)
  said = run_command(*flags, f"--metrics={NAMES}", code=2)
  assert said.endswith(f"if it may be written to, add {data_dir}\n")
  run_data.of(prepared).write(workdir)  # it names the prepared set
  said = run_command(*flags, f"--metrics={NAMES}", "--all_steps")
  printed = rows_in(said)
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  assert printed == [json.loads(row) for row in rows]
  assert [row["step"] for row in printed] == [1, 4]
  for name, value in values.items():
    np.testing.assert_allclose(printed[1][name], value, rtol=1e-4)
  # Somebody else's run: a number is printed before it is written.
  (workdir / "metrics.jsonl").unlink()
  (workdir / "metrics.jsonl").mkdir()
  said = run_command(*flags, "--metrics=kid_mean_colors_20", "--step=1")
  assert "kid_mean_colors_20" in rows_in(said)[0]
  assert "only printed: [Errno 21] Is a directory" in said
  # The newest is damaged: as in sampling, the one before is the newest.
  (workdir / "checkpoints/4/state/manifest.ocdbt").write_bytes(b"")
  for more in ((), ("--all_steps",)):
    said = run_command(*flags, "--metrics=kid_mean_colors_20", *more)
    assert [row["step"] for row in rows_in(said)] == [1]
    assert "skip" in said


def rows_in(said):
  return [json.loads(x) for x in said.splitlines() if x.startswith("{")]


def test_metrics_per_class_and_copying(config, tmp_path, caplog):
  """Rare classes are named; of a larger hold-out, as many images are used."""
  config.num_classes = 2
  config.dataset.holdout = 70
  config.mirror = True
  prepared = prepare(config)
  names = "kid_mean_colors_60_per_class,fd_mean_colors_60_per_class"
  rare = "kid_mean_colors_20_per_class"  # of 20 fakes about 7 are blue
  evaluator = evaluator_of(
    config, prepared, f"{names},{rare},copying_mean_colors_20"
  )
  weights = make_weights(config)
  values = evaluator.evaluate(*weights)
  for name in names.split(","):
    by_class = [values[f"{name}/blue"], values[f"{name}/red"]]
    assert values[name] == pytest.approx(np.mean(by_class))
  error, *of_classes = (
    values[f"kid_mean_colors_60_per_class_error{end}"]
    for end in ("", "/blue", "/red")
  )
  assert error == pytest.approx(np.linalg.norm(of_classes) / 2)
  reason = (
    "without 1 of 2 classes, which have fewer than 10 of the reals or fakes: "
    "blue"
  )
  assert f"{rare}: {reason}" in caplog.text
  row = evaluator.record(3, values)
  json.dumps(row, allow_nan=False)
  assert reason in row["protocols"][rare]
  assert values[rare] == values[f"{rare}/red"]
  assert f"{rare}/blue" not in values
  with pytest.raises(ValueError, match="no number without 2 of 2 classes"):
    evaluator_of(config, prepared, rare.replace("20", "10"))
  # Independent: the same fakes and reals of one class, compared directly.
  blue = np.stack([x["image"] for x in prepared if x["label"] == 0])
  numbers = np.arange(64)
  evaluator._labels = np.resize(evaluator._labels, 64)
  fakes = np.asarray(evaluator._fakes_at(*weights)(numbers)[8])[:60]
  fakes = fakes[evaluator._labels[:60] == 0]
  expected = metrics.kernel_distance(
    *(mean_colors(x.astype(np.float32)) for x in (blue, fakes))
  )
  kid = values["kid_mean_colors_60_per_class/blue"]
  assert kid == pytest.approx(expected, rel=1e-3)

  assert 0 <= values["copying_mean_colors_20"] <= 1
  assert "copying_mean_colors_20_z" in values
  evaluator.write_sheets(tmp_path, 3)
  with Image.open(tmp_path / "copying_mean_colors_20" / "3.png") as sheet:
    assert sheet.size == (80, 16)
    below = np.asarray(sheet)[8:, :8]
  assert any((below == image["image"]).all() for image in prepared)
  copying = evaluator.protocols[-1]
  assert not copying.higher_is_better
  assert "the hold-out" in copying.describe()
  (holdout,) = evaluator._of_holdout.values()
  assert 20 < len(prepared) < len(evaluator._open_holdout())
  assert len(holdout.array) == 2 * len(prepared)  # and mirrored


def test_the_test_split_of_the_demo_is_a_hold_out(
  config, prepared, monkeypatch
):
  """It has the size of the training images, also in a stage."""
  config.dataset.name = "cats"
  config.update(connected_scales="none", grow_from=4)
  evaluator = evaluator_of(config, prepared, "copying_mean_colors_20")
  expected = ConfigDict(config.dataset)
  expected.split = "test"

  def prepare(config, dataset):
    assert (config.resolution, dataset) == (8, expected)
    return prepared.path

  monkeypatch.setattr(data, "prepare", prepare)
  evaluator._open_holdout()
  evaluator.at(4)._open_holdout()


def test_impossible_protocols_are_refused(config, prepared):
  for names, message in (
    ("fd_mean_colors", "add the number of fakes"),
    ("fd_mean_colors_10k_full/16", "has the scales 4, 8"),
    ("fd_mean_colors_9_full", "10 fakes or more"),
    ("is_mean_colors_10k", "no logits"),
    ("copying_mean_colors_20", "has no hold-out; set config.dataset.holdout"),
    ("kid_mean_colors_20_per_class", "the generator is unconditional"),
    ("kid_mean_colors_20_per_class,kid_mean_colors", "unconditional"),
  ):
    with pytest.raises(ValueError, match=message):
      evaluator_of(config, prepared, names)
  three = type(prepared)(prepared.path, prepared.metadata, np.arange(3))
  with pytest.raises(ValueError, match="needs 4 real images, .* are 3; choose"):
    evaluator_of(config, three, "pr_mean_colors_20")


def test_missing_weights_and_wrong_extractors(config, prepared, monkeypatch):
  message = "pt_inception-2015-12-05.*--inception=FILE.*fd_efficientnet_lite0"
  with pytest.raises(FileNotFoundError, match=message):
    metrics.Evaluator(config, prepared, metrics.Extractors(), "fid10k_full")
  with pytest.raises(FileNotFoundError, match=message):
    metrics.Extractors("nowhere.pth")["inception"]
  metrics.Extractors("nowhere.pth")["values"]
  monkeypatch.setattr("msggan_jax.metrics.efficientnet._PACKAGE", "no-such")
  with pytest.raises(FileNotFoundError, match="pip install"):
    metrics.Extractors()["efficientnet_lite0"]
  for text in ("mean_colors", "no_such_module:f", f"{__name__}:nothing"):
    with pytest.raises(ValueError, match="extractor"):
      networks = metrics.Extractors(user=text)
      networks[networks.names[-1]]
