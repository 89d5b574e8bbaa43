"""Comparing folders and prepared sets."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data, metrics
from msggan_jax.data import pictures, prepared_set
from msggan_jax.data.sources import config_of
from msggan_jax.metrics import comparison, feature_pass, protocols
from tests.commands import EXTRACTOR, run_command
from tests.conftest import write_noise
from tests.golden_metrics.mean_colors import mean_colors


def test_comparing_two_folders(tmp_path, monkeypatch):
  a = write_noise(tmp_path / "a", [(8, 8)] * 30)
  b = write_noise(tmp_path / "b", [(8, 8)] * 20, seed=1)
  names = "fd_mean_colors,kid_mean_colors,fd_mean_colors_10_full"
  flags = (f"--reals={a}", f"--fakes={b}", f"--metrics={names}")
  said = run_command("evaluate", *flags, f"--extractor={EXTRACTOR}", "--json")
  row = json.loads(said[said.index("{") : said.rindex("}") + 1])
  networks = metrics.Extractors(user=EXTRACTOR)
  values, made = metrics.compare(str(a), str(b), networks, names)
  assert row == values | made
  some = np.random.RandomState(0).permutation(20)[:10]
  colors = [
    mean_colors(
      np.stack([np.asarray(Image.open(x / f"{i}.png")) for i in numbers])
    ).astype(np.float32)
    for x, numbers in ((a, range(30)), (b, range(20)), (b, some))
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
  few = str(write_noise(tmp_path / "few", [(8, 8)] * 3))
  for pair in ((few, str(b)), (str(a), few)):
    with pytest.raises(ValueError, match="pr_mean_colors needs 4 .*few .* 3"):
      metrics.compare(*pair, networks, "pr_mean_colors")
  prepared = data.prepare(config_of(str(a), 8), output=tmp_path / "set")
  name = "fd_mean_colors"
  found, made = metrics.compare(str(prepared), str(b), networks, name)
  np.testing.assert_allclose(found[name], values[name])
  one_channel = config_of(str(a), 8, channels=1)
  gray = data.prepare(one_channel, output=tmp_path / "gray")
  of_gray, _ = metrics.compare(str(gray), str(b), networks, name)
  assert of_gray[name] != pytest.approx(values[name])
  # A prepared set keeps its statistics, as those of a run.
  images = data.open_prepared(prepared)
  assert made["data_hash"] == images.metadata.content_hash
  monkeypatch.setattr(prepared_set.PreparedSet, "__getitem__", None)
  assert metrics.compare(str(prepared), str(b), networks, name)[0] == found
  Image.new("RGB", (6, 9)).save(b / "20.png")
  with pytest.raises(ValueError, match="images of 2 sizes; name"):
    metrics.compare(str(a), str(b), networks, "kid_mean_colors")
  (b / "20.png").write_bytes(b"no image")
  with pytest.raises(
    ValueError, match="20.png cannot be read: cannot identify"
  ):
    metrics.compare(str(a), str(b), networks, "kid_mean_colors")


def test_few_fakes_are_compared_with_as_many_reals():
  """All reals of a data set would take minutes."""
  networks, efficientnet = metrics.Extractors(), "efficientnet_lite0"
  both = [f"fd_{efficientnet}", f"kid_{efficientnet}"]
  for count, names in (
    (9, both),  # KID of so many has no name
    (16, [f"kid_{efficientnet}_16"]),
    (1000, both),
  ):
    assert comparison._default_names(networks, 0, count) == names
    protocols.parse(names, networks.names)


def test_sets_of_different_sizes_meet_at_the_fakes_size(
  tmp_path, monkeypatch, caplog
):
  """What `sample` writes against photos of any sizes, as in the README."""
  fakes = tmp_path / "images"
  write_noise(fakes / "8x8", [(8, 8)] * 12)
  pictures.save_sheet(np.zeros((24, 32, 3), np.uint8), fakes / "grid_8x8.png")
  sizes = [(20 + i, 31 - i) for i in range(12)]
  photos = write_noise(tmp_path / "photos", [*sizes, (7, 30)])
  (photos / "broken.png").write_bytes(b"no image")
  networks = metrics.Extractors(user=EXTRACTOR)
  data_dir = str(tmp_path / "data")

  def compare(reals, data_dir=data_dir):
    name = "fd_mean_colors"
    values, made = metrics.compare(
      str(reals), str(fakes), networks, name, data_dir=data_dir
    )
    return values[name], made["data_hash"]

  # Training on the photos at 8x8 prepares the same set.
  config = lambda resolution: config_of(
    str(photos), resolution, data_dir=data_dir
  )
  trained_on = data.prepare(config(8))
  assert compare(photos) == compare(trained_on)
  assert "photos: 1 skipped: smaller than 8x8" in caplog.text
  assert [path.name for path in (tmp_path / "data").iterdir()] == [
    trained_on.name
  ]
  assert [*(trained_on / "statistics").iterdir()]
  # A larger prepared set is averaged like the pyramid of training.
  large = data.prepare(config(16))
  (elsewhere := tmp_path / "elsewhere").mkdir()
  (large / "statistics").symlink_to(elsewhere)  # nothing is written through it
  images = np.stack([x["image"] for x in data.open_prepared(large)])
  halved = write_noise(tmp_path / "halved", [])
  for i, image in enumerate(pictures.resized(images, 8)):
    Image.fromarray(image).save(halved / f"{i}.png")
  assert compare(large)[0] == pytest.approx(compare(halved)[0], rel=0.02)
  assert not [*elsewhere.iterdir()]

  monkeypatch.setattr(feature_pass.Passes, "measure", None)  # before any pass
  for reals, sentence in (
    (write_noise(tmp_path / "small", [(4, 9)] * 3), "none that is as large"),
    (data.prepare(config(4)), "of 4x4, which is no larger scale of that"),
  ):
    with pytest.raises(ValueError, match=f"images of 8x8, .*{sentence}"):
      compare(reals)
  (fakes / "8x8").rename(tmp_path / "odd")
  write_noise(fakes / "9x9", [(9, 9)] * 3)
  with pytest.raises(ValueError, match="no run makes images of 9x9"):
    compare(photos)


def test_few_images_make_a_doubtful_frechet_distance(tmp_path, caplog):
  """The row says so, with the distance of halves and an error of KID."""
  reals = write_noise(tmp_path / "reals", [(8, 8)] * 7)
  fakes = write_noise(tmp_path / "fakes", [(8, 8)] * 9, seed=1)
  networks = metrics.Extractors()
  networks._loaders["pixels"] = lambda: SimpleNamespace(
    pooled="all",
    weights_hash="none",
    features=lambda x: {"all": np.asarray(x, np.float32).reshape(len(x), -1)},
  )
  names = "fd_pixels,kid_pixels"
  values, made = metrics.compare(str(reals), str(fakes), networks, names)
  assert list(values) == [
    *names.split(","),
    "kid_pixels_error",
    "fd_pixels_floor",
  ]
  # Halves of so few differ about as much as both sets of one kind.
  assert 0.5 < values["fd_pixels_floor"] / values["fd_pixels"] < 2
  assert abs(values["kid_pixels"]) < 4 * values["kid_pixels_error"]
  doubt = "biased: 7 reals and 9 fakes are too few for 192 features"
  assert doubt in made["protocols"]["fd_pixels"]
  assert "biased" not in made["protocols"]["kid_pixels"]
  assert f"fd_pixels: {doubt}" in caplog.text
