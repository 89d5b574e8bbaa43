"""What a run's files and an exported file say of a generator."""

import base64
import io
import json

import pytest
from PIL import Image

from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.data import run_data
from msggan_jax.models import networks
from msggan_jax.runtime import jsonl
from msggan_jax.sharing import model_card, portable
from tests.algorithm.runs import random_arrays, write_run

STEP = 4
KID = "kid_efficientnet_lite0_1000"


@pytest.fixture
def workdir(tiny_config, tmp_path):
  """A run with three evaluations, two of them at its step."""
  tiny_config.dataset.name, tiny_config.bands = "cats", "3,2,1"
  workdir = write_run(tiny_config, tmp_path / "run", STEP)
  row = {"step": STEP, "kimg": 0.008, "secs": 1.0, "versions": {"jax": "0"}}
  rows = [
    row | {KID: 0.5, "protocols": {KID: "old"}},
    row | {KID: 0.25, f"{KID}/4": 0.125, "protocols": {KID: "1,000 fakes"}},
    row | {"step": 2, KID: 9.0, "is": float("nan")},
  ]
  for each in rows:
    jsonl.append(workdir / jsonl.METRICS_FILE, each)
  sheet = workdir / "copying_efficientnet_lite0_1k" / f"{STEP}.png"
  sheet.parent.mkdir()
  Image.new("RGB", (2560, 512), (10, 200, 30)).save(sheet)
  return workdir


def test_class_names_are_in_the_run_and_its_file(
  workdir, tiny_config, tmp_path
):
  path, old = tmp_path / "shared.safetensors", tmp_path / "old.safetensors"
  tiny_config.num_classes = 3
  write_run(tiny_config, workdir, STEP + 1)
  portable.export(workdir, old)
  names = ("Katze", "a/b", "\x1b[31mred\n")
  run_data.RunData("", names, "", ()).write(workdir)
  portable.export(workdir, path)
  shown = ("Katze", "a/b", "[31mred")
  for source in (workdir, path):
    assert trained.load_generator(source).class_names == shown
    step = STEP + 1 if source == workdir else None
    assert trained.load_generator(source).step == step
    assert model_card.read(source).class_names == shown
  lines = portable.write(path, tmp_path / "a.stablehlo", "stablehlo")
  assert lines[-1] == "classes: 0: Katze, 1: a/b, 2: [31mred"
  assert trained.load_generator(old).class_names == ()
  for text in ("damaged", '{"digests": "", "class_names": ["a"]}'):
    (workdir / "data.json").write_text(text)
    assert trained.load_generator(workdir).class_names == ()


def test_a_run_and_its_file_have_the_same_card(workdir, tiny_config, tmp_path):
  card = model_card.read(workdir)
  assert card.data == "cats"
  assert card.kimg == STEP * tiny_config.batch_size / 1000
  assert card.metrics == {KID: (0.25, "1,000 fakes"), f"{KID}/4": (0.125, "")}
  with Image.open(io.BytesIO(card.pairs)) as picture:
    assert picture.size == (640, 128)
    assert picture.getpixel((5, 5)) == (10, 200, 30)
  path = tmp_path / "shared.safetensors"
  portable.export(workdir, path)
  assert model_card.read(path) == card
  generator = trained.load_generator(path)
  assert generator.bands == (2, 1, 0)
  config = generator.config
  assert config.dataset.name == "cats" and config.dataset.path == ""


@pytest.mark.parametrize(
  "header",
  [
    {},
    {"metrics": "[" * 10_000, "pairs": "no base64", "kimg": "much"},
    {"metrics": "[1]", "pairs": base64.b64encode(b"GIF89a").decode()},
    {"metrics": json.dumps({"a": 1, "b": [True, ""], "c": [1e999, "", 3]})},
  ],
)
def test_a_strange_header_has_an_empty_card(header, tiny_config, tmp_path):
  tiny_config.dataset.name = "somebody's"
  path = tmp_path / "shared.safetensors"
  arrays = random_arrays(networks.make_generator(tiny_config))
  trees = {safetensors_file.GENERATOR: arrays}
  safetensors_file.write(path, tiny_config, STEP, trees, header)
  card = model_card.read(path)
  assert card.metrics == {} and card.pairs == b""
  assert card.data == "somebody's"
  assert "dataset" not in trained.load_generator(path).config
  tiny_config.dataset.update(name="cats", holdout=5.0)  # not all of them
  path = tmp_path / "part.safetensors"
  safetensors_file.write(path, tiny_config, STEP, trees, header)
  assert "dataset" not in trained.load_generator(path).config
