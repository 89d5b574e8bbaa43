"""Modes interpolate and training; videos, decoded again."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from msggan_jax.checkpoints import checkpoint, trained
from msggan_jax.config import saved
from msggan_jax.models.pyramid import to_uint8
from msggan_jax.sampling import sheets, videos
from tests.sampling.test_sampling import cells_of, make_generator, make_job


@pytest.fixture
def written(monkeypatch):
  """Collect the frames instead of encoding them."""
  frames = []
  monkeypatch.setattr(videos, "write", lambda stem, given: frames.extend(given))
  return frames


@pytest.mark.parametrize(
  "model", ["progan", pytest.param("stylegan", marks=pytest.mark.slow)]
)
def test_interpolate_meets_the_seeds(model, written, tmp_path):
  generator = make_generator(model, num_classes=2)
  job = make_job(generator, tmp_path, scales=(4, 8), batch_size=4)
  job = dataclasses.replace(job, labels=[1, 1, 1])
  videos.interpolate(job, 3)
  assert len(written) == 9
  pyramid = [to_uint8(images) for images in generator(job.latents, [1, 1, 1])]
  for i, frame in enumerate(written[::3]):
    assert frame.shape == (128, 2 * 128 + 4, 3)
    parts = (frame[:, :128], frame[:, -128:])
    for part, images in zip(parts, pyramid, strict=True):
      wanted = sheets.fit(images[i], 128).astype(int)
      assert np.abs(part - wanted).max() <= 1
  with pytest.raises(ValueError, match="2 or more --seeds"):
    videos.interpolate(dataclasses.replace(job, seeds=[1], labels=[1]), 3)


def test_training_shows_every_checkpoint(written, tmp_path, monkeypatch):
  whole = make_generator()
  params = jax.tree.map(lambda x: 2 * x, whole.params)
  other = trained.Generator(whole.config, whole.network, params, whole.state)
  generators = {2: whole, 3: None, 4: other}
  saved.save_config(whole.config, tmp_path)
  with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
    for step in generators:
      checkpoints.save(step, {"x": jax.numpy.zeros(1)})

  def load(workdir, step):
    if not generators[step]:
      raise ValueError(f"checkpoint {step} is damaged")
    return generators[step]

  monkeypatch.setattr(trained, "load_generator", load)
  job = make_job(generators[4], tmp_path)
  videos.training(job, tmp_path, 2)
  assert len(written) == 4
  assert (written[0] == written[1]).all()
  shown = cells_of(written[2], rows=2, columns=3)
  wanted = to_uint8(generators[4](job.latents)[1])
  difference = shown[1, 2].astype(int) - sheets.fit(wanted[2], 128)
  assert np.abs(difference).max() <= 1
  with pytest.raises(FileNotFoundError, match="no checkpoint"):
    videos.training(job, tmp_path / "none", 2)
  file = tmp_path / "file"
  file.touch()
  with pytest.raises(ValueError, match="is one file"):
    videos.training(job, file, 2)


def test_decoded_frames_are_the_written_ones(tmp_path):
  """An odd size is padded; MP4 and WebP have the same frames."""
  side = np.linspace(0, 200, 33).astype(np.uint8)
  frames = [
    np.stack([np.tile(side, (21, 1)) + i * 5] * 3, axis=-1) for i in range(7)
  ]
  av = pytest.importorskip("av")
  paths = videos.write(tmp_path / "new" / "v", iter(frames))
  assert paths == [str(tmp_path / "new" / f"v.{s}") for s in ("mp4", "webp")]
  with av.open(paths[0]) as container:
    stream = container.streams.video[0]
    assert stream.average_rate == 30
    decoded = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
  with Image.open(paths[1]) as image:
    assert image.n_frames == 7
    assert image.info["loop"] == 0  # without end
    others = []
    for i in range(7):
      image.seek(i)
      others.append(np.asarray(image.convert("RGB")))
  for result in (decoded, others):
    assert len(result) == 7
    for frame, wanted in zip(result, frames, strict=True):
      assert frame.shape == (22, 34, 3)
      assert np.abs(frame[:21, :33].astype(int) - wanted).mean() < 4
      assert np.abs(frame[21].astype(int) - frame[20]).mean() < 4


def test_a_video_that_fails_leaves_the_old_one(tmp_path):
  pytest.importorskip("av")
  (tmp_path / "v.mp4").write_bytes(b"the old one")

  def frames():
    yield np.zeros((32, 32, 3), np.uint8)
    raise OSError("full disk")

  with pytest.raises(OSError, match="full disk"):
    videos.write(tmp_path / "v", frames())
  assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
  assert (tmp_path / "v.mp4").read_bytes() == b"the old one"
  with pytest.raises(OSError, match=r"/proc/v\."):  # an error of PyAV's
    videos.write(Path("/proc/v"), iter([np.zeros((32, 32, 3), np.uint8)]))


def test_without_pyav_one_sentence_names_the_remedy(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "av", None)
  with pytest.raises(FileNotFoundError, match="pip install"):
    videos.write(tmp_path / "v", iter([]))
