"""Videos: MP4 and animated WebP, with PyAV."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Suffix -> encoder, format of its pixels, options.
_ENCODERS = {
  ".mp4": ("libx264", "yuv420p", {"crf": "18"}),
  ".webp": ("libwebp_anim", "yuv420p", {"quality": "85"}),
}


def check_installed() -> None:
  """Raise FileNotFoundError if PyAV is missing."""
  try:
    import av  # noqa: F401
  except ImportError as error:
    raise FileNotFoundError(
      "videos need PyAV: pip install 'av>=14', or this project with [video]"
    ) from error


def write(
  paths: Sequence[Path], frames: Iterable[np.ndarray], fps: int
) -> None:
  """Write the same frames to several files, one frame at a time.

  Args:
    paths: Files that end in .mp4 or .webp; existing ones are replaced.
    frames: uint8 RGB, (H, W, 3), all of one shape; odd sides are padded by
      repeating the last row or column.
    fps: Frames per second.

  Raises:
    FileNotFoundError: If PyAV is missing.
  """
  check_installed()
  import av

  with contextlib.ExitStack() as stack:
    outputs = []
    for path in paths:
      path.parent.mkdir(parents=True, exist_ok=True)
      # WebP repeats without end.
      options = {"loop": "0"} if path.suffix == ".webp" else {}
      container = stack.enter_context(
        av.open(str(path), "w", container_options=options)
      )
      outputs.append((container, path.suffix))
    streams: list[Any] = []
    for frame in frames:
      frame = _pad(frame)
      if not streams:
        streams = [_add(*output, frame.shape, fps) for output in outputs]
      picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
      for (container, _), stream in zip(outputs, streams, strict=True):
        picture.pts = None
        container.mux(stream.encode(picture))
    for (container, _), stream in zip(outputs, streams, strict=True):
      container.mux(stream.encode())


def _add(container: Any, suffix: str, shape: tuple[int, ...], fps: int) -> Any:
  encoder, pixels, options = _ENCODERS[suffix]
  stream = container.add_stream(encoder, rate=fps, options=options)
  stream.height, stream.width = shape[:2]
  stream.pix_fmt = pixels
  return stream


def _pad(frame: np.ndarray) -> np.ndarray:
  """Make both sides even, as the encoders need them."""
  height, width, _ = frame.shape
  padding = [(0, height % 2), (0, width % 2), (0, 0)]
  return np.ascontiguousarray(np.pad(frame, padding, mode="edge"))
