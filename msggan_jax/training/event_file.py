"""TensorBoard event files, written by tensorboardX without TensorFlow."""

import io
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary


class EventFile:
  """One new event file in a folder; an event is in the file when it returns.

  tensorboardX's `SummaryWriter` has a queue between processes, which loses
  events on a kill; its `EventsWriter` has none.
  """

  def __init__(self, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    self._writer = EventsWriter(str(folder / "events"))

  def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Write numbers of a step."""
    self._write(
      step, [Summary.Value(tag=k, simple_value=x) for k, x in values.items()]
    )

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Write an image, uint8, (H, W, C); alpha is dropped, gray stays gray."""
    height, width, channels = image.shape
    pixels = image[..., 0] if channels == 1 else image[..., :3]
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    encoded = Summary.Image(
      height=height,
      width=width,
      colorspace=min(channels, 3),
      encoded_image_string=png.getvalue(),
    )
    self._write(step, [Summary.Value(tag=name, image=encoded)])

  def close(self) -> None:
    """Close the file."""
    self._writer.close()

  def _write(self, step: int, values: list[Summary.Value]) -> None:
    event = Event(
      step=step, wall_time=time.time(), summary=Summary(value=values)
    )
    self._writer.write_event(event)
    self._writer.flush()
