"""Sets of values: from files of eight channels to samples in their unit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import msggan_jax
from msggan_jax import data, metrics
from msggan_jax.data import arrays
from msggan_jax.data.pictures import to_levels
from msggan_jax.data.sources import config_of
from msggan_jax.metrics import folders
from msggan_jax.models.pyramid import to_float, to_uint8
from msggan_jax.reporting import pictures, records
from msggan_jax.sampling import grids, nearest
from msggan_jax.sampling.job import Job
from msggan_jax.sharing import model_card, portable
from msggan_jax.training import loop
from tests.conftest import load_config
from tests.runs.test_whole_runs import tiny

CHANNELS = 8
LOW, HIGH = -1000.0, 3000.0


@pytest.fixture
def source(tmp_path):
  """Return a folder of 40 arrays, int16, with more power at low numbers."""
  rng = np.random.default_rng(0)
  (tmp_path / "scans").mkdir()
  for i in range(40):
    coarse = rng.normal(size=(2, 2, CHANNELS)).repeat(4, 0).repeat(4, 1)
    fine = 0.1 * rng.normal(size=(8, 8, CHANNELS))
    array = np.clip(1000 + 400 * (coarse + fine), LOW, HIGH)
    np.save(tmp_path / "scans" / f"{i}.npy", array.astype(np.int16))
  return tmp_path / "scans"


@pytest.fixture
def config(source, tmp_path):
  config = tiny(load_config("image_folder"), tmp_path)
  config.channels, config.mirror = CHANNELS, False
  config.snapshot_kimg = config.sample_kimg = 0.032
  config.penalty = "none"  # halves the compilation
  config.metrics = "spectrum64_full,histogram64,correlation64,spectrum64/4"
  config.eval_kimg = 0.064
  config.dataset.path = str(source)
  config.dataset.range = f"{LOW:g}:{HIGH:g}HU"
  config.dataset.layout = "HWC"
  return config


def pixels(images):
  return images.reshape(len(images), -1)


def test_a_run_keeps_the_unit(config, source, tmp_path, capfd, monkeypatch):
  run = tmp_path / "run"
  config.total_kimg = 0.032
  with jax.numpy_dtype_promotion("standard"):
    loop.train(config, run)
    config.total_kimg = 0.064
    loop.train(config, run)  # resumes
  assert "values: -1000 to 3000 HU" in capfd.readouterr().out
  (path,) = (tmp_path / "data").iterdir()
  prepared = data.open_prepared(path)
  assert prepared[0]["image"].dtype == np.uint16
  with Image.open(run / "reals.png") as picture:  # 3x3 channels a cell
    assert picture.size == (8 * 24, 5 * 24)
  assert records.read([str(run)])[0].series("diversity")
  (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
  for name in (
    "spectrum64_full",
    "histogram64",
    "correlation64",
    "spectrum64/4",
  ):
    assert 0 <= row[f"{name}_floor"] < row[name], name
  assert row["histogram64_channel_8"] > 0
  shown = pictures.stills(records.read([str(run)])[0])
  assert [title for title, _ in shown] == [
    "Real images",
    *("spectrum64_full", "histogram64", "spectrum64/4"),
  ]

  card = model_card.read(run)
  assert card.value_range.describe() == "-1000 to 3000 HU"
  portable.export(run, tmp_path / "g.safetensors")
  generator = msggan_jax.load_generator(tmp_path / "g.safetensors")
  assert generator.value_range == prepared.metadata.value_range
  assert model_card.read(tmp_path / "g.safetensors") == card

  job = Job(generator, tmp_path / "images", seeds=(3, 4), batch_size=2)
  assert job.generate()[8].shape == (2, 24, 24, 1)
  assert job.marks != dataclasses.replace(job, bands=(1,)).marks
  (line,) = grids.grid(job, "npy")
  assert "2 images of values, -1000 to 3000 HU" in line
  made = np.load(tmp_path / "images/8x8/seed0004.npy")
  raw = generator(job.latents)[-1][1]
  assert made.dtype == np.float32 and made.shape == (8, 8, CHANNELS)
  np.testing.assert_allclose(
    made, LOW + (np.clip(raw, -1, 1) + 1) / 2 * (HIGH - LOW), atol=1e-3
  )
  with pytest.raises(ValueError, match="png16 has 1, 3 or 4 channels, not 8"):
    grids.grid(job, "png16")
  # The samples are a source themselves, on the scale of the reals.
  fakes = config_of(
    str(tmp_path / "images/8x8"), 8, CHANNELS, range="-1e3:3e3HU", layout="HWC"
  )
  fakes = data.prepare(fakes, output=tmp_path / "fakes")
  values, _ = metrics.compare(str(path), str(fakes), metrics.Extractors())
  assert values["spectrum"] > values["spectrum_floor"]
  with pytest.raises(ValueError, match="prepare both with one --range"):
    folders.channels_of_values(str(path), str(source))
  with pytest.raises(ValueError, match="sees 1 or 3 of the 8"):
    metrics.compare(
      str(path), str(fakes), metrics.Extractors(), "kid_efficientnet_lite0"
    )

  # The mirror image of channels side by side is that of each channel.
  job = dataclasses.replace(job, generator=msggan_jax.load_generator(run))
  job.generator.config.mirror = True
  copies = np.stack([prepared[i]["image"][:, ::-1] for i in (3, 4)])
  monkeypatch.setattr(Job, "batches", lambda *_: [[to_float(copies)] * 2])
  _, sentence = nearest.nearest(
    job, 1, data_dir="", workdir=run, extractor=f"{__name__}:pixels"
  )
  assert "median 0, least 0" in sentence
  monkeypatch.undo()

  pytest.importorskip("tifffile")
  grids.grid(job, "tiff")
  content = (tmp_path / "images/8x8/seed0004.tif").read_bytes()
  np.testing.assert_array_equal(arrays.read(content, "x.tif").array, made)
  assert b'"units": ["HU"' in content


def test_levels_are_those_of_the_floats():
  everything = np.arange(65536, dtype=np.uint16)
  np.testing.assert_array_equal(
    to_levels(everything), to_uint8(to_float(jnp.asarray(everything)))
  )
  stored = np.linspace(-1, 1, 1001, dtype=np.float32)
  np.testing.assert_array_equal(to_levels(stored), to_uint8(to_float(stored)))
