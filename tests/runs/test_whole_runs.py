"""Runs of the less usual kinds, from images to samples."""

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import msggan_jax
from msggan_jax.sharing.foreign import conversion
from msggan_jax.training import loop
from tests.conftest import load_config
from tests.sharing.test_convert import BMSG_D, BMSG_G

pytestmark = pytest.mark.slow


def tiny(config, tmp_path):
  """Make a preset quick: two steps at 8x8."""
  config.resolution, config.latent_size, config.max_channels = 8, 8, 8
  config.w_size = config.mapping_size = 8
  config.mapping_layers = 2
  config.dataset.data_dir = str(tmp_path / "data")
  config.batch_size, config.total_kimg = 32, 0.064
  config.log_kimg = 0.032
  return config


@pytest.fixture(autouse=True)
def as_users_run_it():
  """Optax's Adam mixes types, which the other tests forbid."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.mark.parametrize("preset", ["msg_progan", "msg_stylegan"])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_grey_and_alpha(tmp_path, preset, channels, mode):
  rng = np.random.default_rng(0)
  (tmp_path / "photos").mkdir()
  for i in range(4):
    pixels = rng.integers(0, 255, (12, 10, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(("RGBA", "L")[i % 2])
    image.save(tmp_path / "photos" / f"{i}.png")
  config = tiny(load_config("image_folder", preset), tmp_path)
  config.channels = channels
  config.dataset.path = str(tmp_path / "photos")
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
  pyramid = generator(generator.sample_latents(jax.random.key(0), 2))
  assert pyramid[-1].shape == (2, 8, 8, channels)
  assert msggan_jax.load_discriminator(run)(pyramid).shape == (2,)


@pytest.mark.parametrize("preset", ["msg_progan", "msg_stylegan"])
def test_labels(tmp_path, preset):
  config = tiny(load_config("cifar10", preset), tmp_path)
  config.resolution = 8
  config.num_classes = 10
  run = tmp_path / "run"
  pytest.importorskip("tensorflow")
  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=20, policy=policy):
    loop.train(config, run)
  generator = msggan_jax.load_generator(run)
  z = generator.sample_latents(jax.random.key(0), 2)
  images = [generator(z, labels=np.full(2, i))[-1] for i in (3, 7)]
  assert not np.allclose(*images)
  logits = msggan_jax.load_discriminator(run)(generator(z, [3, 7]), [3, 7])
  assert np.isfinite(logits).all()

  config.num_classes = 7
  with pytest.raises(ValueError, match="num_classes is 7, but the data set"):
    loop.train(config, tmp_path / "other")


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
