"""Which set is prepared, where, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from PIL import Image

from msggan_jax import data
from msggan_jax.data import set_writer
from msggan_jax.data.sources import config_of

RED, BLUE = (220, 30, 40), (30, 40, 200)


@pytest.fixture
def config(tmp_path):
  """Configuration of an empty folder and a place for prepared sets."""
  (tmp_path / "photos").mkdir()
  data_dir = str(tmp_path / "data")
  return config_of(str(tmp_path / "photos"), 16, data_dir=data_dir)


def save(config, color):
  path = Path(config.dataset.path) / "1.png"
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", (48, 32), color).save(path)


def prepare(config, **options):
  return data.open_prepared(data.prepare(config, **options))


def test_impossible_shapes_and_paths(config, tmp_path):
  (tmp_path / "photos" / "run").mkdir()
  (tmp_path / "photos" / "run" / "reals.png").touch()
  (tmp_path / "photos" / "run" / "config.json").touch()
  for change, message in (
    ({"resolution": 48}, "resolution is 48; it must be"),
    ({"resolution": 0}, "resolution is 0; it must be"),
    ({"channels": 2}, "channels: 2"),
    ({}, r"photos has no images; not read: run \(a run, no images of"),
  ):
    with pytest.raises(ValueError, match=message):
      prepare(ConfigDict({**config, **change}))
  os.mkfifo(tmp_path / "pipe")
  for path, message in (
    ("", r"dataset\.path is empty"),
    (str(tmp_path / "nowhere"), "nowhere does not exist"),
    (str(tmp_path / "pipe"), "neither a folder nor a zip file"),
  ):
    config.dataset.path = path
    with pytest.raises(ValueError, match=message):
      prepare(config)


def test_preparing_twice_prepares_once(config, tmp_path, monkeypatch):
  save(config, RED)
  first = prepare(config)
  assert first.metadata.num_classes == 0
  assert first.path.name.startswith("photos-")
  assert first.path.name.endswith("-16x16x3")
  # The content hash tells images, not places; folders of one name differ.
  again = prepare(config, output=tmp_path / "again")
  assert first.metadata.content_hash == again.metadata.content_hash
  other = ConfigDict(config).copy_and_resolve_references()
  other.dataset.path = str(tmp_path / "other" / "photos")
  save(other, BLUE)
  second = prepare(other)
  assert first.path != second.path
  assert first.metadata.content_hash != second.metadata.content_hash
  monkeypatch.setattr(set_writer, "write_set", None)  # would fail if called
  assert prepare(config).path == first.path


def test_prepared_directory_is_a_source_as_it_is(config):
  save(config, RED)
  path = prepare(config).path
  assert data.prepare(config_of(str(path), 16)) == path
  with pytest.raises(ValueError, match="resolution is 32, .* with 16;"):
    data.prepare(config_of(str(path), 32))
  with pytest.raises(ValueError, match="channels is 1, .* with 3;"):
    data.prepare(config_of(str(path), 16, channels=1))
  other = config_of(str(path), 16)
  other.dataset.crop = "pad"
  with pytest.raises(ValueError, match=r"crop is 'pad', .* with 'center'"):
    data.prepare(other)
  # Its own number is known without the source.
  shutil.move(config.dataset.path, f"{config.dataset.path}-away")
  assert data.count_images(config) == 1


def test_a_copy_that_lacks_a_part_is_damaged(config):
  save(config, RED)
  path = prepare(config).path
  shard = next(path.glob("*array_record*"))
  shard.rename(path / "elsewhere")
  with pytest.raises(ValueError, match="array_record-.* is missing, damaged"):
    data.open_prepared(path)
  (path / "elsewhere").rename(shard)
  (path / "dataset_info.json").write_text("{")
  with pytest.raises(ValueError, match=r"dataset_info\.json is missing, dam"):
    data.open_prepared(path)


def test_a_file_named_as_ours_makes_no_set(config):
  save(config, RED)
  (Path(config.dataset.path) / "metadata.json").write_text('{"license": "CC0"}')
  assert len(prepare(config)) == 1


def test_other_content_is_never_overwritten(config, tmp_path):
  save(config, RED)
  output = tmp_path / "output"
  output.mkdir()
  assert prepare(config, output=output).path == output  # it was empty
  mine = tmp_path / "mine"
  mine.mkdir()
  (mine / "thesis.txt").write_text("important")
  with pytest.raises(ValueError, match="mine exists and is not a prepared"):
    prepare(config, output=mine)
  assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
