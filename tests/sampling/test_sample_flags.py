"""Flags of `sample` that end in one sentence before anything is loaded."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from msggan_jax.checkpoints import safetensors_file
from msggan_jax.data import pixels
from msggan_jax.models import networks
from tests.commands import run_command
from tests.conftest import load_config


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
  """A file of a conditional generator whose classes have names."""
  config = load_config("default")
  config.update(resolution=4, latent_size=4, base_channels=16, num_classes=3)
  network = networks.make_generator(config)
  shapes = network.shapes
  trees = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  card = {safetensors_file.CLASS_NAMES: json.dumps(["2", "Hund", "Kätzchen"])}
  path = tmp_path_factory.mktemp("shared") / "a.safetensors"
  safetensors_file.write(path, config, 1, {"generator": trees}, card)
  return path


def run(*flags, workdir="none", output="none", code=0):
  places = (f"--workdir={workdir}", f"--output={output}")
  return run_command("sample", *places, *flags, code=code)


def test_bad_flags_end_in_one_sentence():
  for flags, sentence in (
    (["--mode=video"], "--mode=video"),
    (["--psis=1,2"], "--psis: --mode=grid has no use for it, only truncation"),
    (["--mode=noise", "--image=a.png"], "--image: --mode=noise has no use"),
    (["--mode=truncation", "--psis=1,a"], "--psis=1,a: give numbers"),
    (["--mode=truncation", "--psis=nan"], "--psis=nan: give numbers"),
    (["--mode=style_mix", "--fine_seeds=5-1"], "'5-1' has 0 numbers"),
    ([f"--seeds={2**32}"], "the largest number is 4294967295"),
    (["--seeds=0-4294967295"], "has 4,294,967,296 numbers; choose 1 to"),
    (
      ["--mode=project", "--image=a.png", "--truncation_psi=0.5"],
      "--truncation_psi: --mode=project has no use for it",
    ),
    (["--mode=project"], "--mode=project needs --image=FILE"),
    (["--mode=training", "--ema_kimg=5"], "--ema_kimg: --mode=training has"),
    (["--batch_size=0"], "--batch_size=0"),
    (["--mode=multiscale", "--step=last"], "--step=last: give a number"),
  ):
    said = run(*flags, code=2)
    assert said.count("\n") == 1
    assert sentence in said


def test_classes_are_chosen_by_name_or_number(shared, tmp_path):
  # "a" and two dots above it: as macOS writes names.
  labels = "--labels=Ka\u0308tzchen,0-1,2"
  run("--seeds=5-8", labels, workdir=shared, output=tmp_path)
  for seed, label in zip(range(5, 9), (2, 0, 1, 2), strict=True):
    with Image.open(tmp_path / "4x4" / f"seed000{seed}.png") as image:
      assert image.info[pixels.MARK].endswith(f"seed {seed} class {label}")


def test_an_unknown_class_lists_the_classes(shared, tmp_path):
  said = run("--labels=Maus", workdir=shared, output=tmp_path, code=2)
  assert said.endswith(
    "--labels=Maus: there is no class 'Maus'; there are 0: 2, 1: Hund, "
    "2: Kätzchen\n"
  )
