"""The command `python -m msggan_jax.prepare`."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from msggan_jax import data
from msggan_jax.data.sources import dataset_of


def test_prepares_a_folder(tmp_path):
  source = tmp_path / "photos"
  source.mkdir()
  Image.new("RGB", (40, 30), (10, 20, 30)).save(source / "1.png")
  (source / "2.png").write_bytes(b"")
  for name in ("a.npy", "b.npy", "c.dcm"):
    (source / name).write_bytes(b"no image")
  command = [sys.executable, "-m", "msggan_jax.prepare", "--source=photos"]
  command += ["--output=out", "--resolution=16"]
  run = functools.partial(subprocess.run, capture_output=True, text=True)
  done = run(command, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert "images:         1 of 16x16x3" in done.stdout
  assert "out/contact_sheet.png" in done.stdout
  assert "rejected:       1" in done.stdout
  assert "1 skipped: empty file\n" in done.stdout
  assert "files that are not read: 2 .npy, 1 .dcm\n" in done.stdout
  assert "preparing 2 images of 16x16x3 in out: at most 0.1 MB" in done.stderr
  (image,) = data.open_prepared(tmp_path / "out")
  np.testing.assert_array_equal(image["image"][0, 0], (10, 20, 30))
  done = run([*command, "--source=nowhere", "--output=new"], cwd=tmp_path)
  assert (done.returncode, done.stdout) == (2, "")
  assert len(done.stderr.splitlines()) == 1
  assert "nowhere does not exist" in done.stderr


def test_sources_become_configurations():
  for source, name, path in (
    ("photos", "folder", "photos"),
    ("/a/b:c.zip", "folder", "/a/b:c.zip"),
    ("tfds:celeb_a_hq/1024", "celeb_a_hq/1024", ""),
    ("lmdb:/data/church", "lsun_church", "/data/church"),
    ("demo:earth", "earth", ""),
  ):
    dataset = dataset_of(source, "test", "pad")
    assert (dataset.name, dataset.path) == (name, path)
    assert (dataset.split, dataset.crop) == ("test", "pad")
  with pytest.raises(ValueError, match="demo:cats and demo:earth"):
    dataset_of("demo:dogs", "train", "center")
