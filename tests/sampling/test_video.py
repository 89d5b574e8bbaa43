"""Videos, decoded again."""

import builtins

import numpy as np
import pytest
from PIL import Image

from msggan_jax.sampling import video

av = pytest.importorskip("av")


def test_decoded_frames_are_the_written_ones(tmp_path):
  """An odd size is padded; MP4 and WebP have the same frames."""
  side = np.linspace(0, 200, 33).astype(np.uint8)
  frames = [
    np.stack([np.tile(side, (21, 1)) + i * 5] * 3, axis=-1) for i in range(7)
  ]
  paths = [tmp_path / "new" / "v.mp4", tmp_path / "new" / "v.webp"]
  video.write(paths, iter(frames), fps=10)
  with av.open(str(paths[0])) as container:
    stream = container.streams.video[0]
    assert stream.average_rate == 10
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


def test_without_pyav_one_sentence_names_the_remedy(monkeypatch):
  real = builtins.__import__

  def fails(name, *args, **kwargs):
    if name == "av":
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", fails)
  with pytest.raises(FileNotFoundError, match="pip install"):
    video.check_installed()
