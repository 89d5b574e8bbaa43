"""Runs of the less usual kinds, from images to samples."""

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import msggan_jax
from msggan_jax import data
from msggan_jax.reporting import records
from msggan_jax.sampling import grids, projection
from msggan_jax.sampling.job import Job
from msggan_jax.sharing import portable
from msggan_jax.sharing.foreign import conversion
from msggan_jax.training import loop
from tests.conftest import load_config, write_noise
from tests.sharing.test_convert import BMSG_D, BMSG_G

pytestmark = pytest.mark.usefixtures("standard_promotion")


def tiny(config, tmp_path):
  """Make a preset quick: two steps at 8x8."""
  config.resolution, config.latent_size, config.max_channels = 8, 8, 8
  config.w_size = config.mapping_size = 8
  config.mapping_layers = 2
  config.dataset.data_dir = str(tmp_path / "data")
  config.batch_size, config.total_kimg = 32, 0.064
  config.log_kimg = 0.032
  return config


@pytest.mark.slow
@pytest.mark.parametrize(
  ("preset", "channels", "mode"),
  [("msg_progan", 4, "RGBA"), ("msg_stylegan", 1, "L")],
)
def test_gray_and_alpha_with_labels(tmp_path, preset, channels, mode):
  rng = np.random.default_rng(0)
  for i in range(4):
    pixels = rng.integers(0, 255, (12, 10, 4), dtype=np.uint8)
    folder = tmp_path / "photos" / "ab"[i // 2]
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).convert(("RGBA", "L")[i % 2])
    image.save(folder / f"{i}.png")
  config = tiny(load_config("image_folder", preset), tmp_path)
  config.channels, config.num_classes = channels, 2
  config.dataset.path = str(tmp_path / "photos")
  config.dataset.labels = "folders"
  run = tmp_path / "run"
  loop.train(config, run)
  for picture in (
    "reals.png",
    "samples/8x8/000000.064.png",
    "samples/scales/000000.064.png",
  ):
    with Image.open(run / picture) as image:
      assert image.mode == mode, picture
  generator = msggan_jax.load_generator(run)
  z = generator.sample_latents(jax.random.key(0), 2)
  images = [generator(z, labels=np.full(2, i))[-1] for i in (0, 1)]
  assert images[0].shape == (2, 8, 8, channels)
  assert not np.allclose(*images)
  logits = msggan_jax.load_discriminator(run)(generator(z, [0, 1]), [0, 1])
  assert logits.shape == (2,) and np.isfinite(logits).all()


@pytest.mark.parametrize(
  "preset", ["msg_progan", pytest.param("msg_stylegan", marks=pytest.mark.slow)]
)
def test_images_that_are_not_square(tmp_path, preset):
  write_noise(tmp_path / "photos", [(20, 24)] * 40)
  config = tiny(load_config("image_folder", preset), tmp_path)
  config.base_grid = "3x4"
  config.penalty = "none"  # halves the compilation
  config.dataset.path = str(tmp_path / "photos")
  run = tmp_path / "run"
  loop.train(config, run)
  (prepared,) = (tmp_path / "data").iterdir()
  assert prepared.name.endswith("-6x8x3")
  assert data.open_prepared(prepared)[0]["image"].shape == (6, 8, 3)
  with Image.open(run / "reals.png") as picture:
    assert picture.size == (8 * 8, 5 * 6)
  with Image.open(run / "samples/4x4/000000.064.png") as picture:
    assert picture.size == (8 * 4, 8 * 3)
  assert records.read([str(run)])[0].series("diversity")

  generator = msggan_jax.load_generator(run)
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
  lines = projection.project(job, tmp_path / "shown.png", iterations=2)
  assert "6\N{MULTIPLICATION SIGN}8" in lines[-1]
  output = tmp_path / "g.safetensors"
  portable.export(run, output)
  pyramid = msggan_jax.load_generator(output)(np.zeros((1, 8), np.float32))
  assert [images.shape[1:3] for images in pyramid] == [(3, 4), (6, 8)]


@pytest.mark.slow
def test_a_tfds_set(tmp_path):
  pytest.importorskip("tensorflow")
  config = tiny(load_config("cifar10"), tmp_path)
  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=20, policy=policy):
    assert int(loop.train(config, tmp_path / "run").step) == 2


@pytest.mark.slow
def test_imported_weights_train_on(tmp_path):
  run = tmp_path / "run"
  weights = conversion.read("bmsg-gan", str(BMSG_G), str(BMSG_D))
  conversion.write(weights, "bmsg_gan", run)
  before = msggan_jax.load_generator(run)
  config = load_config("workdir", str(run))
  config.dataset.name = "cats"
  config.dataset.data_dir = str(tmp_path / "data")
  config.total_kimg = 0.032
  state = loop.train(config, run)
  assert int(state.step) == 1
  after = msggan_jax.load_generator(run)
  z = before.sample_latents(jax.random.key(0), 2)
  change = np.abs(after(z)[-1] - before(z)[-1]).max()
  assert 0 < change < 0.1  # one step of the moving average
