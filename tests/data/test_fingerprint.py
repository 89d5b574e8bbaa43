"""A set is used again only while its source and settings are the same."""

import json
import os
import re
import shutil

import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import fingerprint, prepared_set
from msggan_jax.data.sources import config_of


def picture(path, level):
  path.parent.mkdir(exist_ok=True)
  Image.new("RGB", (16, 16), (level, 99, 0)).save(path)


@pytest.fixture
def photos(tmp_path):
  """Six images in the folders of two classes, and other labels of them."""
  path = tmp_path / "photos"
  path.mkdir()
  rows = [(f"{'ab'[i % 2]}/{i}.png", i % 2) for i in range(6)]
  for i, (name, _) in enumerate(rows):
    picture(path / name, 10 * i)
  labels = "".join(f"{name},{label}\n" for name, label in rows)
  (path / "labels.csv").write_text(f"file,label\n{labels}")
  (path / "dataset.json").write_text(json.dumps({"labels": rows}))
  return path


def prepare(photos, kind="labels.csv", crop="center", **options):
  config = config_of(str(photos), 16, crop=crop, labels=kind)
  return data.prepare(config, output=photos.with_name("set"), **options)


def relabel(names):
  """Give the images of labels.csv or dataset.json other classes."""

  def act(file):
    text = file.read_text()
    file.write_text(re.sub("[01](?=\\n|\\])", lambda m: names[int(m[0])], text))

  return act


RENAMED = (
  "3 images added, such as c/0.png; 3 images removed, such as a/0.png; the "
  "classes were a, b, are b, c"
)
# What changes: of which labels, in which file, how.
CHANGES = {
  "1 image added, such as b/7.png": (
    *("folders", "b/7.png"),
    lambda file: picture(file, 9),
  ),
  "1 image removed, such as a/2.png": ("none", "a/2.png", os.remove),
  "1 image changed, such as b/1.png": (
    *("none", "b/1.png"),
    lambda file: Image.new("RGB", (99, 50)).save(file),
  ),
  "1 image written at another time, such as b/1.png": (
    *("none", "b/1.png"),
    lambda file: picture(file, 200),
  ),
  "3 images with another label, such as b/1.png; the classes were 0, 1, are 0, "
  "1, 2": ("labels.csv", "labels.csv", relabel("02")),
  "6 images with another label, such as a/0.png": (
    *("dataset.json", "dataset.json"),
    relabel("10"),
  ),
  RENAMED: ("folders", "a", lambda file: file.rename(file.with_name("c"))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_prepared_anew(photos, capfd, change):
  kind, name, act = CHANGES[change]
  before = prepare(photos, kind)
  content = data.open_prepared(before).metadata.content_hash
  assert prepare(photos, kind) == before
  copy = shutil.copytree(photos, photos.with_name("copy"))
  capfd.readouterr()
  act(photos / name)
  if "time" not in change:
    with pytest.raises(data.OutOfDate) as error:
      prepare(photos, kind, unchanged=True)
    assert str(error.value) == f"{before} is out of date: {change}"
  assert prepare(photos, kind, content_hash=content) == before
  after = prepare(photos, kind, unchanged="time" in change)
  sentence = f"{before} is out of date: {change}; preparing anew in {after}\n"
  assert sentence in capfd.readouterr().err
  assert data.open_prepared(after).metadata.content_hash != content
  assert prepare(photos, kind) == after
  shutil.rmtree(photos)
  # The source is away: the newest, or that of the run.
  assert prepare(photos, kind) == after
  assert prepare(photos, kind, content_hash=content) == before
  assert f"{photos} is not there; using {after}" in capfd.readouterr().err
  shutil.copytree(copy, photos)  # with its times, but those of folders
  assert prepare(photos, kind) == before
  assert not list(photos.parent.glob("*.partial"))


def test_settings_versions_and_exchanged_sets(photos, monkeypatch, capfd):
  first = prepare(photos)
  padded = prepare(photos, crop="pad")
  assert f"{first} is out of date: crop was 'center'" in capfd.readouterr().err
  assert prepare(photos) == first != padded == prepare(photos, crop="pad")
  with monkeypatch.context() as patch:
    patch.setattr(fingerprint, "_VERSION", 99)
    later = prepare(photos, unchanged=True)  # the images may be the same
    assert later not in (first, padded)
    assert "version was 1, is 99" in capfd.readouterr().err
  other = photos.with_name("other")
  picture(other / "1.png", 1)
  config = config_of(str(other), 16)
  exchanged = data.prepare(config, output=other.with_name("exchanged"))
  for path in (first, padded, later):
    shutil.rmtree(path)
  exchanged.rename(first)
  capfd.readouterr()
  again = prepare(photos)
  assert again != first and "source was 'folder:" in capfd.readouterr().err
  (again / "metadata.json").write_text("{}")
  with pytest.raises(ValueError, match=r"metadata\.json is missing, damaged"):
    prepare(photos)


def test_an_older_set_is_used_as_before(photos, capfd):
  path = prepare(photos)
  fields = json.loads((path / "metadata.json").read_text())
  for name in ("fingerprint", "version", "rejected", "unread"):
    del fields[name]
  fields["source_sizes"] = {"16-31": 6}  # newer sets lack it
  (path / "metadata.json").write_text(json.dumps(fields))
  (path / "source.json").unlink()
  relabel("10")(photos / "labels.csv")
  capfd.readouterr()
  assert prepare(photos) == prepare(photos, unchanged=True) == path
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith(f"{path} was prepared before sets kept a fingerprint")
  assert prepared_set.read_metadata(path).version == 0
