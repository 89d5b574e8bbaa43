"""Images that are not square: from photographs to samples."""

import jax
import numpy as np
import pytest
from PIL import Image

import msggan_jax
from msggan_jax import data
from msggan_jax.checkpoints import trained
from msggan_jax.reporting import records
from msggan_jax.sampling import grids, projection
from msggan_jax.sampling.job import Job
from msggan_jax.sharing import portable
from msggan_jax.training import loop
from tests.conftest import load_config, write_noise
from tests.runs.test_whole_runs import tiny


@pytest.mark.parametrize(
  "preset", ["msg_progan", pytest.param("msg_stylegan", marks=pytest.mark.slow)]
)
def test_a_run(tmp_path, preset):
  write_noise(tmp_path / "photos", [(20, 24)] * 40)
  config = tiny(load_config("image_folder", preset), tmp_path)
  config.base_grid = "3x4"
  config.penalty = "none"  # halves the compilation
  config.dataset.path = str(tmp_path / "photos")
  run = tmp_path / "run"
  with jax.numpy_dtype_promotion("standard"):
    loop.train(config, run)
  (prepared,) = (tmp_path / "data").iterdir()
  assert prepared.name.endswith("-6x8x3")
  assert data.open_prepared(prepared)[0]["image"].shape == (6, 8, 3)
  with Image.open(run / "reals.png") as picture:
    assert picture.size == (8 * 8, 5 * 6)
  with Image.open(run / "samples/4x4/000000.064.png") as picture:
    assert picture.size == (8 * 4, 8 * 3)
  assert records.read([str(run)])[0].series("diversity")

  generator = trained.load_generator(run)
  job = Job(
    generator=generator,
    output=tmp_path / "images",
    seeds=(0, 1),
    labels=None,
    scales=(),
    truncation_psi=1.0,
    batch_size=2,
  )
  grids.multiscale(job)
  with Image.open(tmp_path / "images/multiscale.png") as picture:
    assert picture.height < 2 * 128 and picture.width > 2 * 128
  shown = job.generate()[8][0]
  Image.fromarray(shown).save(tmp_path / "shown.png")
  with jax.numpy_dtype_promotion("standard"):
    lines = projection.project(job, tmp_path / "shown.png", iterations=2)
  assert "6\N{MULTIPLICATION SIGN}8" in lines[-1]
  output = tmp_path / "g.safetensors"
  portable.export(run, output)
  pyramid = msggan_jax.load_generator(output)(np.zeros((1, 8), np.float32))
  assert [images.shape[1:3] for images in pyramid] == [(3, 4), (6, 8)]
