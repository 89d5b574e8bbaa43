"""Hold-outs and near-duplicates of prepared sets."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import duplicates, holdout, prepared_set, set_writer
from msggan_jax.data.sources import config_of

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
  config = config_of(str(photos), 32, holdout=size, **fields)
  return data.prepare(config, output=photos.with_name(name))


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


def test_parts_are_disjoint_and_duplicates_on_one_side(photos):
  for i, file in enumerate(sorted(photos.iterdir())):
    folder = photos / f"class {i % 3}"
    folder.mkdir(exist_ok=True)
    file.rename(folder / file.name)
  path = prepare(photos, 0.25, labels="folders")
  whole = data.PreparedSet(path, prepared_set.read_metadata(path))
  (trio, _), (pair, _) = duplicates_of(path)
  parts = [data.open_prepared(path, part) for part in ("train", "holdout")]
  assert sorted([*parts[0].numbers, *parts[1].numbers]) == list(range(COUNT))
  assert 8 <= len(parts[1]) <= 10
  for group in (trio, pair):
    assert len({*group} & {*parts[1].numbers.tolist()}) in (0, len(group))
  assert len({part.metadata.content_hash for part in parts}) == 2
  for part in parts:
    assert part.metadata.num_images == len(part)
    for image, number in zip(part, part.numbers, strict=True):
      expected = whole[int(number)]["image"]
      np.testing.assert_array_equal(image["image"], expected)
    labels = [int(image["label"]) for image in part]
    assert prepared_set.read_labels(part).tolist() == labels
  file = path / "labels.bin"
  file.write_bytes(file.read_bytes()[:8])  # cut short
  assert prepared_set.read_labels(part).tolist() == labels
  file.unlink()  # as in an older set
  assert prepared_set.read_labels(part).tolist() == labels


def test_the_choice_depends_on_the_images_alone():
  digests = [f"{i:064x}" for i in range(40)]
  held = {digests[i] for i in holdout.choose(0.25, digests, [])}
  assert len(holdout.choose(10, digests, [])) == len(held) == 10
  digests.reverse()
  assert held == {digests[i] for i in holdout.choose(0.25, digests, [])}
  with pytest.raises(ValueError, match="near-duplicates of each other"):
    holdout.choose(1, ["a", "b", "c"], [[0, 1, 2]])


def test_impossible_holdouts_are_refused_before_the_work(photos, monkeypatch):
  monkeypatch.setattr(set_writer, "_make_picture", None)  # would fail if called
  for size, pattern, message in (
    (COUNT, "", "dataset.holdout is 40, but the set has 40 image"),
    (0.001, "", "dataset.holdout is 0.001, but the set has 40 image"),
    (2.5, "", "dataset.holdout is 2.5; choose a share"),
    (float("nan"), "", "dataset.holdout is nan; choose a share"),
    (0.5, "(x)", r"which 0\.png does not match"),
    (0.5, r"\.", "or groups by dataset.group_by, which stay together"),
    (0, "(.)", "give dataset.holdout, too"),
  ):
    with pytest.raises(ValueError, match=message):
      prepare(photos, size, group_by=pattern)
    assert {entry.name for entry in photos.parent.iterdir()} == {"photos"}


def test_another_holdout_is_not_reused(photos):
  path = prepare(photos, 0.25)
  config = config_of(str(path), 32, holdout=0.5)
  with pytest.raises(ValueError, match=r"is prepared with 0\.25"):
    data.prepare(config)
  config.dataset.holdout = 0.25
  assert data.prepare(config) == path
  config.dataset.group_by = "(.)"
  with pytest.raises(ValueError, match="dataset.group_by is .* prepared with"):
    data.prepare(config)
  (path / "holdout.json").write_text("{}")
  with pytest.raises(ValueError, match=r"holdout\.json is missing or damaged"):
    data.open_prepared(path)


def groups_of(images):
  """Return the groups of duplicates, and how many images were read for it."""
  reads = []

  def read(index):
    reads.append(index)
    return images[index]

  thumbnails = [duplicates.thumbnail(image) for image in images]
  digests = [prepared_set.digest_of(image, 0).hex() for image in images]
  return duplicates.find_groups(thumbnails, digests, read), len(reads)


def test_groups_are_those_of_all_pairs():
  """Compared with all pairs, one by one, of noisy and mirrored images."""
  random = np.random.RandomState(0)
  base = np.stack([np.asarray(picture(seed, 32)) for seed in range(20)])
  noise = random.normal(0, 6, (40, 32, 32, 3))
  noisy = np.clip(base[random.randint(20, size=40)] + noise, 0, 255)
  noisy[::3] = noisy[::3, :, ::-1]
  images = np.concatenate([base, noisy.astype(np.uint8)])
  parents = np.arange(len(images))
  for j, other in enumerate(images):
    for i in range(j):
      if any(
        duplicates.are_alike(images[i], x) for x in (other, other[:, ::-1])
      ):
        parents[parents == parents[j]] = parents[i]
  expected = [np.flatnonzero(parents == root) for root in np.unique(parents)]
  expected = [group.tolist() for group in expected if len(group) > 1]
  assert len(expected) > 10
  assert groups_of(images)[0] == expected
  order = random.permutation(len(images))
  found = {frozenset(order[group]) for group in groups_of(images[order])[0]}
  assert found == set(map(frozenset, expected))


@pytest.mark.parametrize("kind", ["white", "black", "equal", "digits", "scans"])
def test_duplicates_on_plain_backgrounds(kind):
  """Their number is right, and few images are read, of all kinds."""
  random, count, side = np.random.RandomState(0), 200, 32
  images = np.zeros((count, side, side, 3), np.uint8)
  if kind == "white":
    images += random.randint(250, 256, images.shape, np.uint8)
  if kind == "black":
    images += random.randint(0, 6, images.shape, np.uint8)
  for image in images:
    if kind == "digits":
      strokes = random.randint(0, 2, (4, 4, 1)) * np.uint8(255)
      image[8:24, 8:24] = strokes.repeat(4, axis=0).repeat(4, axis=1)
    if kind == "scans":
      y, x = random.randint(0, side, 2)
      image[y, x] = 255
  groups, reads = groups_of(images)
  if kind in ("white", "black", "equal"):
    assert groups == [list(range(count))]
  else:
    both = np.unique(
      np.concatenate([images, images[:, :, ::-1]]), axis=0, return_inverse=True
    )[1].ravel()
    numbers = np.minimum(both[:count], both[count:])
    same = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    assert groups == sorted(g.tolist() for g in same if len(g) > 1)
  assert reads <= 2 * count * duplicates._MOST_FAILURES


def test_groups_of_names_are_never_on_both_sides():
  names = [f"p{i // 5}_{i}.npy" for i in range(40)]
  digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
  groups = holdout.by_pattern(r"p(\d+)_", names)
  assert [*map(len, groups)] == [5] * 8
  held = holdout.choose(15, digests, groups)
  assert len(held) == 15
  assert all({*group} <= {*held} or not {*group} & {*held} for group in groups)
  names = ["p1l", "p1r", "q1l", "q2r", "q1r"]  # the side does not count
  either = holdout.by_pattern(r"p(\d)(l|r)|q(\d)(l|r)", names)
  assert either == [[0, 1], [2, 4], [3]]
