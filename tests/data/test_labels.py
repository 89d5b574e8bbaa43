"""Labels of folders and zips: sub-folders, labels.csv, dataset.json."""

import json

import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data.sources import config_of

NAMES = ["cat/1.png", "cat/2.png", "cat/10.png", "dog/1.png", "dog/old/2.png"]
LABELS = [0, 0, 0, 1, 1]


@pytest.fixture
def photos(tmp_path):
  path = tmp_path / "photos"
  for i, name in enumerate(NAMES):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(path / name)
  return path


def prepare(source, kind, **options):
  config = config_of(str(source), 16, labels=kind)
  output = source.with_name(f"prepared-{kind}")
  path = data.prepare(config, output=output, **options)
  return data.open_prepared(path)


def write_csv(photos, rows, header="file,label"):
  text = "\n".join([header, *(f"{name},{label}" for name, label in rows)])
  (photos / "labels.csv").write_text(text + "\n")


def write_json(photos, content):
  (photos / "dataset.json").write_text(json.dumps(content))


def pairs(given=LABELS):
  return [list(pair) for pair in zip(NAMES, given, strict=True)]


def test_all_forms_give_the_same_labels(photos):
  write_csv(photos, [(n, ("a cat", "dog")[k]) for n, k in pairs()])
  write_json(photos, {"labels": pairs()})
  classes = {
    "folders": ("cat", "dog"),
    "labels.csv": ("a cat", "dog"),
    "dataset.json": ("0", "1"),
  }
  message = "num_classes is 3, but the data set has 2 classes"
  with pytest.raises(ValueError, match=message):
    prepare(photos, "folders", num_classes=3)
  for kind, class_names in classes.items():
    images = prepare(photos, kind, num_classes=2)
    metadata = images.metadata
    assert metadata.class_names == class_names
    assert metadata.class_counts == (3, 2)
    assert [int(image["label"]) for image in images] == LABELS
    assert [int(image["image"][0, 0, 0]) for image in images] == [
      40 * NAMES.index(name) for name in NAMES
    ]
  assert prepare(photos, "none").metadata.class_names == ()
  assert "classes:        2 (0 3, 1 2)" in data.summary(images.path)


def test_the_first_level_with_several_folders_counts(photos):
  images = prepare(photos.parent, "folders")  # all in photos/
  assert images.metadata.class_names == ("cat", "dog")


def refused(photos, kind, match):
  output = photos.with_name("refused")
  config = config_of(str(photos), 16, labels=kind)
  with pytest.raises(ValueError, match=match) as error:
    data.prepare(config, output=output)
  assert "\n" not in str(error.value)
  assert not output.exists()
  assert not photos.with_name(".refused.partial").exists()


def test_impossible_json_is_refused(photos):
  for content, message in (
    ({"labels": None}, "None is not a label"),
    ({"labels": 7}, "7 is not a label"),
    ({"labels": pairs()[:3]}, "2 images, such as dog/1.png, are without"),
    ({"labels": [*pairs(), ["no.png", 0]]}, "1 file without an image"),
    ({"labels": [*pairs(), ["cat/1.png", 1]]}, "'cat/1.png' has two labels"),
    ({"labels": pairs([0, 0, 0, 1, 10**9])}, "labels range from 0 to 10"),
    ({"labels": pairs([0, 0, 0, 1, True])}, "is not a label"),
    ({"label": []}, "dataset.json is unreadable"),
    ([], "dataset.json is unreadable"),
  ):
    write_json(photos, content)
    refused(photos, "dataset.json", message)


def test_damaged_and_missing_files_are_refused(photos):
  refused(photos, "dataset.json", "no readable file dataset.json")
  (photos / "dataset.json").write_text("[" * 100_000)
  refused(photos, "dataset.json", "dataset.json is unreadable")
  (photos / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
  refused(photos, "labels.csv", "labels.csv is unreadable")
  write_csv(photos, pairs(), header="name,class")
  refused(photos, "labels.csv", "must start with the line file,label")
  write_csv(photos, [(name, "") for name in NAMES])
  refused(photos, "labels.csv", "row 2 is not a file and its label")
  write_csv(photos, pairs()[1:])
  refused(photos, "labels.csv", "the image cat/1.png is without a label")


def test_images_outside_of_class_folders_are_refused(photos):
  Image.new("RGB", (16, 16)).save(photos / "stray.png")
  refused(photos, "folders", "the image stray.png is in no folder of a")
  cats = config_of("demo:cats", 16, labels="folders")
  with pytest.raises(ValueError, match="only a folder or zip"):
    data.prepare(cats, output=photos.with_name("cats"))
  with pytest.raises(ValueError, match="bodies, but only the cats have such"):
    prepare(photos, "bodies")
