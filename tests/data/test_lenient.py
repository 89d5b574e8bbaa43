"""Damaged images of a prepared set: skipped, recorded, replaced, counted."""

import itertools
import json

import jax
import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.data import patience, pixels, prepared_set
from msggan_jax.training import loop

SIZE = 12


def png(level, shape=(8, 8, 3)):
  return pixels.encode_png(np.full(shape, level, np.uint8))


BAD = {
  2: b"no PNG",
  6: png(6)[:-40],
  7: png(7, (4, 4, 3)),
  11: png(11, (8, 8, 1)),
}
GOOD = [i for i in range(SIZE) if i not in BAD]
# What each image is replaced by: itself, or the next good one.
STAND_INS = [0, 1, 3, 3, 4, 5, 8, 8, 8, 9, 10, 0]


@pytest.fixture
def damaged(tmp_path):
  """A set of 12 images, image i filled with the level i but for the bad."""
  path = tmp_path / "set"
  path.mkdir()
  writer = prepared_set.RecordWriter(
    path, size=(8, 8), channels=3, has_labels=True
  )
  writer.add((BAD.get(i, png(i)), i) for i in range(SIZE))
  writer.close()
  metadata = data.Metadata(
    source="test",
    split="",
    crop="center",
    resolution=8,
    channels=3,
    num_images=SIZE,
    num_rejected=0,
    class_names=tuple(map(str, range(SIZE))),
    source_sizes={},
    content_hash="",
  )
  prepared_set.write_metadata(path, metadata)
  return data.open_prepared(path)


@pytest.fixture
def lenient(damaged, tmp_path):
  return data.LenientSet(damaged, 0.4, tmp_path / "run" / "unreadable.jsonl")


def read_rows(tmp_path):
  lines = (tmp_path / "run" / "unreadable.jsonl").read_text().splitlines()
  return {row["image"]: row["reason"] for row in map(json.loads, lines)}


def numbers(loader, steps):
  batches = list(itertools.islice(loader, steps))
  loader.close()
  levels = np.stack([batch["image"][:, 0, 0, 0] for batch in batches])
  labels = np.stack([batch["label"] for batch in batches])
  np.testing.assert_array_equal(levels, labels)
  return labels


def test_a_prepared_set_names_the_damaged_image(damaged):
  for i in BAD:
    with pytest.raises(prepared_set.UnreadableImage, match=f"set: image {i} "):
      damaged[i]
  assert [int(damaged[i]["label"]) for i in GOOD] == GOOD


def test_damaged_records_leave_the_others_alone(damaged):
  (file,) = damaged.path.glob("*array_record*")
  content = bytearray(file.read_bytes())
  content[content.index(png(4)) + 30] ^= 1
  file.write_bytes(content)
  images = data.open_prepared(damaged.path)
  for _ in range(2):
    with pytest.raises(prepared_set.UnreadableImage, match="hash mismatch"):
      images[4]
    assert images[3]["label"] == 3 and images[5]["label"] == 5


def test_the_next_image_stands_in(lenient, tmp_path):
  for _ in range(2):
    assert [int(image["label"]) for image in lenient] == STAND_INS
  rows = read_rows(tmp_path)
  assert rows.keys() == BAD.keys()
  assert rows[7] == "it is uint8 of shape (4, 4, 3)"
  with pytest.raises(IndexError):
    lenient[SIZE]


def test_each_is_recorded_once(damaged, lenient, tmp_path):
  path = tmp_path / "run" / "unreadable.jsonl"
  list(lenient)
  before = path.read_text()
  list(data.LenientSet(damaged, 0.4, path))  # a resumption, another process
  assert path.read_text() == before


def test_every_process_and_resumption_sees_the_same(damaged, tmp_path):
  def read(first_step, steps, **process):
    images = data.LenientSet(damaged, 0.4, tmp_path / "unreadable.jsonl")
    loader = data.make_loader(
      images, batch_size=6, seed=3, first_step=first_step, **process
    )
    return numbers(loader, steps)

  whole = read(0, 8)
  # Each epoch has every image's stand-in once.
  for epoch in whole.reshape(4, SIZE):
    assert sorted(epoch) == sorted(STAND_INS)
  np.testing.assert_array_equal(read(5, 3), whole[5:])
  parts = [read(2, 4, process_index=i, process_count=2) for i in range(2)]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[2:6])


class FailingDisk:
  """Records whose first reads fail as ArrayRecord does on a failing disk."""

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


def test_a_disk_that_fails_once_damages_no_image(
  lenient, tmp_path, monkeypatch
):
  monkeypatch.setattr(patience, "PAUSES_SECS", (0.0, 0.0))
  lenient._records = FailingDisk(lenient._records, failures=2)
  assert [int(image["label"]) for image in lenient] == STAND_INS
  assert read_rows(tmp_path).keys() == BAD.keys()

  lenient._records.failures = 10**9
  loader = data.make_loader(lenient, batch_size=6, seed=0)
  with pytest.raises(
    OSError, match=r"cannot be read after 3 attempts: pread\(\) failed: Input"
  ):
    next(loader)
  loader.close()
  assert lenient.unreadable == sorted(BAD)


def test_copies_of_a_set_that_differ_are_refused(lenient):
  with pytest.raises(ValueError, match=r"set: image 3 can be read here and n"):
    lenient.check_unreadable([2, 3])
  lenient.check_unreadable([2, 6, 11])
  assert lenient.unreadable == [2, 6, 11]


@pytest.mark.parametrize(("share", "most"), [(0.001, 3), (0.3, 3), (0.0, 0)])
def test_too_many_end_in_one_sentence(damaged, tmp_path, share, most):
  images = data.LenientSet(damaged, share, tmp_path / "unreadable.jsonl")
  loader = data.make_loader(images, batch_size=6, seed=0)
  with pytest.raises(ValueError) as error:
    numbers(loader, 8)
  loader.close()
  sentence = str(error.value)
  assert f"at most {most} may (config.dataset.max_unreadable)" in sentence
  assert len(sentence.splitlines()) == 1
  with pytest.raises(ValueError, match="at most"):  # and every later time
    images[2]


def test_a_set_without_any_readable_image_ends(damaged, tmp_path):
  (file,) = damaged.path.glob("*array_record*")
  file.write_bytes(file.read_bytes()[:1000])
  images = data.LenientSet(
    data.open_prepared(damaged.path), 0.99, tmp_path / "unreadable.jsonl"
  )
  for i in range(2):
    with pytest.raises(ValueError, match="12 images cannot be read"):
      images[i]


@pytest.mark.parametrize("share", [-0.1, 1.0, 5])
def test_impossible_shares(damaged, tmp_path, share):
  with pytest.raises(ValueError, match=r"config\.dataset\.max_unreadable is"):
    data.LenientSet(damaged, share, tmp_path / "unreadable.jsonl")


def prepare_cats(config, tmp_path, monkeypatch):
  """Prepare 70 cats, the first of them damaged."""
  monkeypatch.setattr(
    "msggan_jax.data.sources.demo._CAT_SPLITS", {"train": range(70)}
  )
  config.resolution = 8
  config.total_kimg = 0.064  # 2 steps
  config.dataset.data_dir = str(tmp_path / "data")
  path = data.prepare(config.dataset, 8, 3)
  (file,) = path.glob("*array_record*")
  content = bytearray(file.read_bytes())
  content[content.index(b"IDAT") + 10] ^= 1
  file.write_bytes(content)


def test_training_reads_leniently(tiny_config, tmp_path, monkeypatch):
  prepare_cats(tiny_config, tmp_path, monkeypatch)

  def make_evaluator(config, images):
    assert len(images) == 70
    np.testing.assert_array_equal(images[0]["image"], images[1]["image"])
    raise KeyboardInterrupt  # enough

  monkeypatch.setattr(loop.evaluation, "make_evaluator", make_evaluator)
  with pytest.raises(KeyboardInterrupt):
    loop.train(tiny_config, tmp_path / "run")
  assert read_rows(tmp_path).keys() == {0}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.0])
def test_a_run_with_a_damaged_image(tiny_config, tmp_path, monkeypatch, share):
  prepare_cats(tiny_config, tmp_path, monkeypatch)
  tiny_config.dataset.max_unreadable = share
  if not share:
    with pytest.raises(ValueError, match="at most 0 may"):
      loop.train(tiny_config, tmp_path / "run")
    return
  state = loop.train(tiny_config, tmp_path / "run")
  assert int(state.step) == 2
  assert all(
    np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.g_params)
  )
  assert read_rows(tmp_path).keys() == {0}
