"""Hold-outs and near-duplicates of prepared sets."""

import json

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import duplicates, holdout, prepared_set, set_writer
from msggan_jax.data.sources import dataset_of
from tests.data.test_partial_set import Killed, contents, kill_at

COUNT = 40


def picture(seed, size=64):
  """A smooth random image."""
  coarse = np.random.RandomState(seed).randint(0, 256, (4, 4, 3), np.uint8)
  return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
  """Forty images; 3, 13 and 23 show the same, as 7 and 8 do, one mirrored."""
  path = tmp_path / "photos"
  path.mkdir()
  for i in range(COUNT):
    picture({13: 3, 23: 3, 8: 7}.get(i, i)).save(path / f"{i}.png")
  picture(3).save(path / "13.jpg", quality=60)
  (path / "13.png").unlink()
  picture(3, size=80).save(path / "23.png")
  picture(7).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path / "8.png")
  return path


def prepare(photos, size, name="set", **fields):
  dataset = dataset_of(str(photos), "train", "center", holdout=size, **fields)
  return data.prepare(dataset, 32, 3, output=photos.with_name(name))


def duplicates_of(path):
  """Return the numbers and the names of each group."""
  lines = (path / "duplicates.jsonl").read_text().splitlines()
  return [(row["images"], row["names"]) for row in map(json.loads, lines)]


def test_near_duplicates_are_reported(photos):
  path = prepare(photos, 0)
  (_, trio), (_, pair) = duplicates_of(path)
  assert trio == ["3.png", "13.jpg", "23.png"] and pair == ["7.png", "8.png"]
  assert "duplicates:     5 images resemble others" in data.summary(path)
  with pytest.raises(ValueError, match="has no hold-out"):
    data.open_prepared(path, "holdout")


@pytest.mark.parametrize("size", [0.25, 10])
def test_parts_are_disjoint_and_duplicates_on_one_side(photos, size):
  for i, file in enumerate(sorted(photos.iterdir())):
    folder = photos / f"class {i % 3}"
    folder.mkdir(exist_ok=True)
    file.rename(folder / file.name)
  whole = prepare(photos, 0, "whole", labels="folders")
  (trio, _), (pair, _) = duplicates_of(whole)
  path = prepare(photos, size, labels="folders")
  parts = [data.open_prepared(path, part) for part in ("train", "holdout")]
  assert sorted([*parts[0].numbers, *parts[1].numbers]) == list(range(COUNT))
  assert 8 <= len(parts[1]) <= 10
  for group in (trio, pair):
    assert len({*group} & {*parts[1].numbers.tolist()}) in (0, len(group))
  assert len({part.metadata.content_hash for part in parts}) == 2
  for part in parts:
    assert part.metadata.num_images == len(part)
    for image, number in zip(part, part.numbers, strict=True):
      expected = data.open_prepared(whole)[int(number)]["image"]
      np.testing.assert_array_equal(image["image"], expected)
    labels = [int(image["label"]) for image in part]
    assert part.metadata.class_counts == tuple(np.bincount(labels))
    assert prepared_set.read_labels(part).tolist() == labels
  file = path / "labels.bin"
  file.write_bytes(file.read_bytes()[:8])  # cut short
  assert prepared_set.read_labels(part).tolist() == labels
  file.unlink()  # as in an older set
  assert prepared_set.read_labels(part).tolist() == labels


def test_the_choice_depends_on_the_images_alone():
  digests = [f"{i:064x}" for i in range(40)]
  held = {digests[i] for i in holdout.choose(0.25, digests, [])}
  digests.reverse()
  assert held == {digests[i] for i in holdout.choose(0.25, digests, [])}
  with pytest.raises(ValueError, match="near-duplicates of each other"):
    holdout.choose(1, ["a", "b", "c"], [[0, 1, 2]])


def test_a_killed_preparation_chooses_the_same(photos, monkeypatch):
  monkeypatch.setattr(set_writer, "PIECE_IMAGES", 7)
  whole = prepare(photos, 0.25, "whole")
  for owner, name, count in (
    (set_writer.PartialSet, "add_piece", 3),
    (holdout, "write", 0),
    (set_writer.PartialSet, "move_to", 0),
  ):
    with monkeypatch.context() as patch:
      kill_at(patch, owner, name, count)
      with pytest.raises(Killed):
        prepare(photos, 0.25)
  assert contents(prepare(photos, 0.25)) == contents(whole)


def test_an_impossible_holdout_keeps_what_is_prepared(tmp_path, monkeypatch):
  photos = tmp_path / "photos"
  photos.mkdir()
  for i in range(5):
    picture(0).save(photos / f"{i}.png")
  dataset = dataset_of(str(photos), "train", "center", holdout=2.0)
  dataset.data_dir = str(tmp_path / "data")
  with pytest.raises(holdout.Impossible, match="near-duplicates of each other"):
    data.prepare(dataset, 32, 3)
  dataset.holdout = 0.0
  monkeypatch.setattr(set_writer, "_make_picture", None)  # would fail if called
  path = data.prepare(dataset, 32, 3)
  assert len(data.open_prepared(path)) == 5
  assert [*path.parent.iterdir()] == [path]


def test_impossible_sizes_are_refused(photos):
  for size, message in (
    (COUNT, "dataset.holdout is 40, but the set has 40 image"),
    (0.001, "dataset.holdout is 0.001, but the set has 40 image"),
    (2.5, "dataset.holdout is 2.5; choose a share"),
    (float("nan"), "dataset.holdout is nan; choose a share"),
  ):
    with pytest.raises(ValueError, match=message):
      prepare(photos, size)
    assert {entry.name for entry in photos.parent.iterdir()} == {"photos"}


def test_another_holdout_is_not_reused(photos):
  path = prepare(photos, 0.25)
  dataset = dataset_of(str(path), "train", "center", holdout=0.5)
  with pytest.raises(ValueError, match=r"is prepared with 0\.25"):
    data.prepare(dataset, 32, 3)
  dataset.holdout = 0.25
  assert data.prepare(dataset, 32, 3) == path
  (path / "holdout.json").write_text("{}")
  with pytest.raises(ValueError, match=r"holdout\.json is missing or damaged"):
    data.open_prepared(path)


def test_all_near_pairs_are_found():
  """Compared with all pairs, one by one."""
  random = np.random.RandomState(0)
  base = random.randint(20, 230, (30, 8 * 9 * 3))
  noisy = base[random.randint(30, size=120)] + random.randint(-7, 8, (120, 216))
  colors = np.concatenate([base, noisy]).astype(np.uint8)
  pairs = {tuple(sorted(pair)) for pair in duplicates._near_pairs(colors)}
  hashes = duplicates._hashes(colors)
  expected = {
    (i, j)
    for j in range(len(colors))
    for i in range(j)
    if bin(int(hashes[i] ^ hashes[j])).count("1") <= 3
    and np.abs(colors[i].astype(int) - colors[j]).max() <= 12
  }
  assert pairs == expected
  assert len(expected) > 100
