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

pytestmark = [
  pytest.mark.slow,
  pytest.mark.usefixtures("standard_promotion"),
]


def tiny(config, tmp_path):
  """Make a preset quick: two steps at 8x8."""
  config.resolution, config.latent_size, config.max_channels = 8, 8, 8
  config.w_size = config.mapping_size = 8
  config.mapping_layers = 2
  config.dataset.data_dir = str(tmp_path / "data")
  config.batch_size, config.total_kimg = 32, 0.064
  config.log_kimg = 0.032
  return config


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


def test_a_tfds_set(tmp_path):
  pytest.importorskip("tensorflow")
  config = tiny(load_config("cifar10"), tmp_path)
  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=20, policy=policy):
    assert int(loop.train(config, tmp_path / "run").step) == 2


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
