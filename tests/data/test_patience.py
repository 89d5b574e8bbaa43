"""A disk that fails for a moment damages no image."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data import reading
from msggan_jax.data.sources import dataset_of


@pytest.fixture
def dataset(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, "PAUSES_SECS", (0.0, 0.0))
  folder = tmp_path / "photos"
  folder.mkdir()
  for i in range(4):
    Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i}.png")
  return dataset_of(str(folder), "train", "center")


def fail(monkeypatch, times, number=errno.EIO):
  """Make the next reads of 2.png fail."""
  read_bytes, left = Path.read_bytes, iter(range(times))

  def failing(path):
    if path.name == "2.png" and next(left, None) is not None:
      raise OSError(number, "the disk says no", str(path))
    return read_bytes(path)

  monkeypatch.setattr(Path, "read_bytes", failing)


def test_a_preparation_reads_again_or_resumes(dataset, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    fail(patch, times=100)
    with pytest.raises(
      OSError, match=r"2\.png cannot be read after 3 attempts: the disk says no"
    ):
      data.prepare(dataset, 8, 3, output=tmp_path / "set")
  assert not (tmp_path / "set").exists()
  fail(monkeypatch, times=2)
  path = data.prepare(dataset, 8, 3, output=tmp_path / "set")
  images = [image["image"][0, 0, 0] for image in data.open_prepared(path)]
  assert images == [0, 1, 2, 3]


def test_other_errors_are_the_file_s(dataset, tmp_path, monkeypatch):
  fail(monkeypatch, times=1, number=errno.EACCES)
  path = data.prepare(dataset, 8, 3, output=tmp_path / "set")
  assert len(data.open_prepared(path)) == 3
  assert "the disk says no" in (path / "rejected.jsonl").read_text()
