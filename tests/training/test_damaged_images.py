"""A damaged image ends a run with its state saved; mended, it goes on."""

import itertools

import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.checkpoints import checkpoint
from msggan_jax.data import pixels, prepared_set, reading, record_writer
from msggan_jax.metrics.reals import Reals
from msggan_jax.runtime import jsonl
from msggan_jax.training import batches, loop
from tests.algorithm.runs import assert_equal, numbers_of

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)


@pytest.fixture
def config(quick_config, tmp_path):
  """Four steps, of which each has images of its own."""
  quick_config.dataset.data_dir = str(tmp_path / "data")  # to be damaged
  quick_config.log_kimg = 0.032
  return quick_config


def image_of_step(prepared, config, step):
  """Return the number of an image that a step is the first to read.

  64 are read for a picture of them, `reals.png`.
  """
  loader = data.make_loader(prepared, batch_size=32, seed=config.seed)
  *_, batch = itertools.islice(loader, step)
  loader.close()
  read = {image.tobytes() for image in batch["image"]}
  pictured, _ = Reals.of(prepared).draw("", 64)
  numbers = set(range(len(prepared))) - set(pictured)
  return max(i for i in numbers if prepared[i]["image"].tobytes() in read)


def damage(prepared, number):
  """Flip a bit of an image's record; return the file and what it was."""
  (file,) = prepared.path.glob("*array_record*")
  before = file.read_bytes()
  content = bytearray(before)
  png = pixels.encode_png(prepared[number]["image"])
  content[content.index(png) + len(png) // 2] ^= 1
  file.write_bytes(content)
  return file, before


def test_a_run_saves_its_state_and_goes_on_when_it_is_mended(config, tmp_path):
  whole = loop.train(config, tmp_path / "whole")
  prepared = data.open_prepared(data.prepare(config))
  number = image_of_step(prepared, config, 3)
  file, content = damage(prepared, number)
  with pytest.raises(
    batches.Unreadable,
    match=rf"data/.*: image {number} cannot be read: .*hash.*prepare the set",
  ) as caught:
    loop.train(config, tmp_path / "run")
  assert caught.value.code == 2
  with checkpoint.Checkpoints(tmp_path / "run/checkpoints") as checkpoints:
    assert checkpoints.steps == [2]
  rows = jsonl.read(tmp_path / "run/stats.jsonl")
  assert [row["step"] for row in rows] == [1, 2]
  file.write_bytes(content)
  resumed = loop.train(config, tmp_path / "run")
  assert_equal(whole, resumed)
  rows, expected = (
    numbers_of(tmp_path / name, ["stability/", "diversity"])
    for name in ("run", "whole")
  )
  assert rows == expected


class FailingDisk:
  """Records whose reads fail as ArrayRecord's do on a failing disk."""

  def __init__(self, records, failures):
    self._records = records
    self.failures = failures

  def __len__(self):
    return len(self._records)

  def __getitem__(self, index):
    if self.failures:
      self.failures -= 1
      raise RuntimeError("pread() failed: Input/output error; reading file")
    return self._records[index]


def test_a_disk_that_fails_for_a_moment_damages_no_image(config, monkeypatch):
  monkeypatch.setattr(reading, "PAUSES_SECS", (0.0, 0.0))
  prepared = data.open_prepared(data.prepare(config))
  disk = prepared._records = FailingDisk(prepared._records, failures=2)
  assert len(list(prepared)) == 128
  disk.failures = 10**9
  loader = data.make_loader(prepared, batch_size=32, seed=0)
  feed = batches.Feed(None, loader)
  assert not feed.has_next()
  with pytest.raises(
    batches.Unreadable, match=r"read after 3 attempts: pread\(\) failed: Input"
  ) as caught:
    next(feed)
  loader.close()
  assert caught.value.code == 1  # the disk may recover


def test_an_evaluation_names_the_damaged_image(config):
  config.extractor = "tests.golden_metrics.mean_colors:mean_colors"
  config.metrics = "fd_mean_colors_64_full"
  config.eval_kimg = 0.128
  prepared = data.open_prepared(data.prepare(config))
  damage(prepared, 100)
  evaluator = loop.metrics.make_evaluator(
    config, prepared, *loop.metrics.choose(config)
  )
  generator = loop.make_program(
    config, loop.sharding.make_mesh()
  ).create_state()
  with pytest.raises(ValueError, match="image 100 cannot be read: "):
    evaluator.evaluate(generator.ema_params, generator.ema_state)


def test_every_damage_has_a_sentence(config):
  path = data.prepare(config)
  writer = record_writer.RecordWriter(path, prepared_set.read_metadata(path))
  good = pixels.encode_png(PIXELS)
  bad = {
    1: b"no PNG",
    3: good[:-40],
    4: pixels.encode_png(PIXELS[:2, :2]),
    7: pixels.encode_png(PIXELS[..., :1]),
  }
  writer.add((bad.get(i, good), 0) for i in range(128))
  images = data.open_prepared(path)
  for i in 2 * [*bad]:
    with pytest.raises(ValueError, match=f"image {i} cannot be read: .*delete"):
      images[i]
    np.testing.assert_array_equal(images[i + 1 + (i == 3)]["image"], PIXELS)
