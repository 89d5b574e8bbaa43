"""augment "auto": the values that a number of images gets."""

import numpy as np
import pytest
from PIL import Image

from msggan_jax.checkpoints import workdirs
from msggan_jax.config import checks
from msggan_jax.config.few_images import choose, with_few_images
from tests.conftest import load_config


def folder(path, num):
  path.mkdir()
  rng = np.random.default_rng(0)
  for i in range(num):
    pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path / f"{i}.png")
  return path


def few(path, preset="msg_progan"):
  config = load_config("image_folder", f"few_images,{preset}")
  config.dataset.path = str(path)
  config.resolution, config.batch_size = 64, 8
  return config


@pytest.mark.parametrize(
  ("num", "augment", "strength", "total"),
  [
    (100, "diffaugment", 1.0, 200.0),
    (1_000, "ada", 0.6, 1000.0),
    (29_999, "ada", 0.4, 2000.0),
    (99_999, "ada", 0.1, 2000.0),
    (100_000, "none", 1.0, 2000.0),
  ],
)
def test_the_number_of_images_chooses(num, augment, strength, total):
  chosen = {name: v for name, (v, _) in choose(few("a"), num).items()}
  assert chosen["augment"] == augment
  assert chosen["augment_strength"] == strength
  assert chosen["total_kimg"] == total
  assert chosen["ema_kimg"] == min(10, total / 50)
  assert "r1_gamma" not in chosen  # WGAN-GP has none


def test_gamma_follows_resolution_and_batch():
  config = few("a", "msg_stylegan")
  gamma, why = choose(config, 500)["r1_gamma"]
  assert gamma == pytest.approx(0.0002 * 64**2 / 8 * 5)
  assert "times 5 scales" in why
  config.penalty_scales = "sum"
  assert choose(config, 500)["r1_gamma"][0] == pytest.approx(0.0002 * 64**2 / 8)


@pytest.mark.parametrize(
  ("num", "augment", "limit"),
  [(100, "diffaugment", 1.0), (1_000, "ada", 0.8), (100_000, "none", None)],
)
def test_a_loss_with_a_zero_gets_an_adaptive_strength(num, augment, limit):
  config = few("a", "msg_stylegan")
  config.loss = "logistic"
  chosen = {name: v for name, (v, _) in choose(config, num).items()}
  assert chosen["augment"] == augment
  if limit is None:
    assert "augment_target" not in chosen
    return
  assert (chosen["augment_strength"], chosen["augment_target"]) == (limit, 0.6)
  assert chosen["augment_kimg"] == min(500.0, chosen["total_kimg"] / 4)
  fixed = choose(config, num, {"augment_target"})
  assert "augment_target" not in fixed
  assert fixed["augment_strength"] == choose(few("a"), num)["augment_strength"]


def test_values_and_reasons_are_printed(tmp_path, capsys):
  config = few(folder(tmp_path / "photos", 20))
  config.total_kimg = 7.0
  made = with_few_images(config, {"total_kimg"})
  checks.validate(made, 1)
  assert (made.augment, made.total_kimg) == ("diffaugment", 7.0)
  lines = capsys.readouterr().err.splitlines()
  assert "few images: total_kimg 7.0: given" in lines
  assert any("augment diffaugment: 20 images (Zhao" in line for line in lines)
  assert config.augment == "auto"
  assert with_few_images(made, ()) is made


def test_a_resumed_run_keeps_its_values(tmp_path, capsys):
  photos = folder(tmp_path / "photos", 20)
  first = with_few_images(few(photos), (), tmp_path / "run")
  workdirs.save_config(first, tmp_path / "run")
  photos.rename(tmp_path / "elsewhere")
  again = with_few_images(few(photos), (), tmp_path / "run")
  assert again.to_dict() == first.to_dict()
  assert "as the run in" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("num", "sentence"),
  [
    (None, "dataset.path: .*photos does not exist"),
    (0, "has no images"),
    (1, r"has 1 image\(s\), fewer than config.batch_size, 8; add"),
  ],
)
def test_too_few_images_are_one_sentence(tmp_path, num, sentence):
  path = tmp_path / "photos"
  if num is not None:
    folder(path, num)
  with pytest.raises(ValueError, match=sentence):
    with_few_images(few(path), ())
