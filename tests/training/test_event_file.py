"""Event files as TensorBoard reads them."""

import io
import struct

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from msggan_jax.training.reporter import EventFile


def read_events(path):
  """Parse the TFRecord format: length, its CRC, the event, its CRC."""
  data = path.read_bytes()
  events = []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    events.append(Event.FromString(data[12 : 12 + length]))
    data = data[16 + length :]
  return events


def test_events_are_in_the_file_at_once(tmp_path):
  events = EventFile(tmp_path / "tensorboard")
  events.write_scalars(7, {"d_loss": 0.5, "gradient_penalty/8": np.float32(2)})
  image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
  events.write_image(8, "samples", image)
  events.write_image(9, "gray", image[..., :1])
  (path,) = (tmp_path / "tensorboard").iterdir()
  _, scalars, picture, gray = read_events(path)  # before it is closed
  assert scalars.step == 7
  values = {value.tag: value.simple_value for value in scalars.summary.value}
  assert values == {"d_loss": 0.5, "gradient_penalty/8": 2.0}
  (value,) = picture.summary.value
  assert (picture.step, value.tag) == (8, "samples")
  png = Image.open(io.BytesIO(value.image.encoded_image_string))
  np.testing.assert_array_equal(np.asarray(png), image)
  png = Image.open(io.BytesIO(gray.summary.value[0].image.encoded_image_string))
  assert png.mode == "L"
  events.close()
