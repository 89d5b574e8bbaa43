"""Comparing folders and prepared sets; wrong flags of `evaluate`."""

import json

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data, metrics
from msggan_jax.data.sources import dataset_of
from tests.evaluating import EXTRACTOR, evaluate_command
from tests.golden_metrics.mean_colors import mean_colors


def test_comparing_two_folders(tmp_path):
  r = np.random.RandomState(0)
  for folder, count in (("a", 30), ("b", 20)):
    (tmp_path / folder).mkdir()
    for i in range(count):
      pixels = r.randint(0, 256, (8, 8, 3), np.uint8)
      Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
  a, b = tmp_path / "a", tmp_path / "b"
  names = "fd_mean_colors,kid_mean_colors,fd_mean_colors_10_full"
  command = evaluate_command(
    f"--reals={a}", f"--fakes={b}", f"--metrics={names}"
  )
  row = json.loads(command.stdout)
  networks = metrics.Extractors(user=EXTRACTOR)
  values, made = metrics.compare(str(a), str(b), networks, names)
  assert row == values | made
  colors = [
    mean_colors(
      np.stack([np.asarray(Image.open(x / f"{i}.png")) for i in range(n)])
    ).astype(np.float32)
    for x, n in ((a, 30), (b, 20), (b, 10))
  ]
  for name, fakes in (
    ("fd_mean_colors", colors[1]),
    ("fd_mean_colors_10_full", colors[2]),
  ):
    expected = metrics.frechet_distance(colors[0], fakes)
    np.testing.assert_allclose(values[name], expected)
  for names, message in (
    ("fd_mean_colors_21_full", "only 20"),
    ("fd_mean_colors_10_official", "only a run"),
    ("fd_mean_colors_10/4", "no scales"),
    ("copying_mean_colors", "only a run has it"),
  ):
    with pytest.raises(ValueError, match=message):
      metrics.compare(str(a), str(b), networks, names)
  dataset = dataset_of(str(a), "train", "center")
  prepared = data.prepare(dataset, 8, 3, output=tmp_path / "set")
  name = "fd_mean_colors"
  found, _ = metrics.compare(str(prepared), str(b), networks, name)
  np.testing.assert_allclose(found[name], values[name])
  Image.new("RGB", (6, 6)).save(b / "20.png")
  with pytest.raises(ValueError, match="20.png has 6x6 pixels.*8x8"):
    metrics.compare(str(a), str(b), networks, "kid_mean_colors")


def test_wrong_flags_end_in_one_sentence():
  for arguments, sentence in (
    ((), "either --workdir or --reals"),
    (("--reals=a",), "belong together"),
    (("--workdir=nowhere",), "not the workdir of a run"),
  ):
    command = evaluate_command(*arguments, code=2)
    assert sentence in command.stderr
    assert command.stderr.count("\n") == 1
