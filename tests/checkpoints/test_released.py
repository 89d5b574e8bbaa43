"""Generators in the package: complete, small, and found by their names."""

import hashlib
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import msggan_jax
from msggan_jax.checkpoints import trained
from msggan_jax.metrics import agreement

FOLDER = Path(trained.__file__).parent / "released"


def test_the_package_has_cats():
  assert "cats" in trained.released()
  setup = (FOLDER.parents[2] / "setup.cfg").read_text()
  assert "checkpoints/released/*.safetensors" in setup  # so wheels have them


@pytest.mark.parametrize("name", trained.released())
def test_a_released_generator_draws_and_its_card_is_complete(name):
  generator = msggan_jax.load_generator(name)
  z = generator.sample_latents(jax.random.key(0), 8)
  labels = np.arange(8) if generator.config.num_classes else None
  pyramid = generator(z, labels)
  traced = (z,) if labels is None else (z, labels)
  assert len(jax.eval_shape(generator, *traced)) == len(pyramid)
  side = generator.config.resolution
  assert pyramid[-1].shape == (8, side, side, 3)
  for scale in pyramid:
    assert np.isfinite(scale).all()
    assert 0.1 < np.std(scale) < 1
  if generator.config.pyramid != "rgb":
    images = {x.shape[1]: msggan_jax.to_uint8(x) for x in pyramid}
    assert agreement.measure([images])["agreement"] > 0.99
  differences = np.asarray(pyramid[-1]) - np.asarray(pyramid[-1])[::-1]
  assert np.std(differences) > 0.1

  content = (FOLDER / f"{name}.safetensors").read_bytes()
  assert len(content) <= 5_000_000
  card = (FOLDER / f"{name}.md").read_text()
  for word in ("Data:", "Trained on", "Reproduce:", "Recipe:", "| `kid_"):
    assert word in card
  digest = re.search(r"SHA-256 of the file: `(\w+)`", card)[1]
  assert digest == hashlib.sha256(content).hexdigest()


def test_own_folders_come_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert trained.find("cats") == FOLDER / "cats.safetensors"
  Path("cats").mkdir()
  assert trained.find("cats") == Path("cats")
  assert trained.find("runs/cats") == Path("runs/cats")
  with pytest.raises(FileNotFoundError, match="released generators: cats"):
    msggan_jax.load_generator("dogs")
