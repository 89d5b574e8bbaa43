"""A run's rows and events, and its bound on steps ahead of the devices."""

import io
import struct
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from msggan_jax import data
from msggan_jax.algorithm.train_step import StepMetrics
from msggan_jax.data.sources import config_of
from msggan_jax.runtime import clock, jsonl
from msggan_jax.training import loop
from msggan_jax.training.events import Schedule
from msggan_jax.training.reporter import EventFile, Reporter
from tests.algorithm.runs import small_config


@pytest.fixture
def times():
  return clock.TimeRecord(0.0)


@pytest.fixture
def reporter(tmp_path, times):
  return make_reporter(tmp_path, times, 0)


def make_reporter(workdir, times, first_step, config=None):
  return Reporter(
    workdir,
    schedule=Schedule(config or small_config(total_kimg=0.072)),
    first_step=first_step,
    tensor_names=[],
    times=times,
  )


def test_samples_of_an_abandoned_branch_are_deleted(tmp_path, times):
  samples = tmp_path / "samples" / "8x8"
  samples.mkdir(parents=True)
  for name in ("000000.000", "000000.016", "000000.024", "mine"):
    (samples / f"{name}.png").touch()
  for step, left in ((2, ["000000.000", "000000.016"]), (0, [])):
    make_reporter(tmp_path, times, step).close()
    names = sorted(file.stem for file in samples.iterdir())
    assert names == [*left, "mine"]


def test_at_most_two_steps_are_unfinished(reporter):
  """Before each step, as the loop does: wait, dispatch, add."""
  finished = []

  def dispatched(step):
    return types.SimpleNamespace(
      block_until_ready=lambda: finished.append(step)
    )

  for step in range(1, 6):
    reporter.wait(loop.RUN_AHEAD)
    reporter.add(step, dispatched(step))
    assert finished == list(range(1, step - 1))
  reporter.close()


@pytest.mark.parametrize(
  ("stable_kimg", "left"), [(0.024, "10s left"), (0.032, "10s or more left")]
)
def test_speed_is_that_of_training_alone(
  tmp_path, times, monkeypatch, capsys, stable_kimg, left
):
  """Stages after the first, of three or four steps, may be slower."""
  config = small_config("progan", grow_stable_kimg=stable_kimg)
  config.grow_from, config.grow_fade_kimg, config.total_kimg = 4, 0.0, 0.072
  config.grow_batch_sizes = ""
  reporter = make_reporter(tmp_path, times, 0, config)
  now = 0.0
  monkeypatch.setattr(clock.time, "monotonic", lambda: now)
  times.switch_to("step")
  reporter._last_secs = times.secs["step"]
  names = ("d_loss", "g_loss")
  losses = StepMetrics(
    values=dict.fromkeys(names, np.float32(0)),
    counts=dict.fromkeys(names, np.int32(1)),
    first_bad=np.int32(-1),
  )
  for step in range(1, 5):
    now += 2.0
    reporter.add(step, losses)
    if step % 2 == 1:
      with reporter.paused("samples"):
        now += 100.0
  reporter.report(4)
  reporter.close()
  (row,) = jsonl.read(tmp_path / "stats.jsonl")
  assert row["images_per_sec"] == 4.0
  assert capsys.readouterr().out.endswith(f" {left}\n")


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
  image = np.arange(4 * 6 * 4, dtype=np.uint8).reshape(4, 6, 4)
  events.write_image(8, "samples", image)
  (path,) = (tmp_path / "tensorboard").iterdir()
  _, scalars, picture = read_events(path)  # before it is closed
  assert scalars.step == 7
  values = {value.tag: value.simple_value for value in scalars.summary.value}
  assert values == {"d_loss": 0.5, "gradient_penalty/8": 2.0}
  (value,) = picture.summary.value
  assert (picture.step, value.tag) == (8, "samples")
  png = Image.open(io.BytesIO(value.image.encoded_image_string))
  np.testing.assert_array_equal(np.asarray(png), image[..., :3])
  events.close()


def test_the_picture_of_reals_is_a_sample_of_sorted_classes(reporter, tmp_path):
  """A quarter of the set, its first images, is dark."""

  def sheet(prepared):
    reporter.write_reals(prepared)
    with Image.open(tmp_path / "reals.png") as picture:
      return np.asarray(picture)

  images = np.random.default_rng(0).integers(0, 256, (256, 8, 8, 3), np.uint8)
  images[:64] //= 8
  (tmp_path / "photos").mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
  config = config_of(str(tmp_path / "photos"), 8, holdout=20)
  path = data.prepare(config, output=tmp_path / "set")
  few = sheet(data.open_prepared(path, "holdout"))
  assert few.shape == (2 * 8, 8 * 8, 3)  # no black places
  tiles = sheet(data.open_prepared(path)).reshape(8, 8, 8, 8, 3)
  assert 6 < (tiles.mean(axis=(1, 3, 4)) < 64).sum() < 26
  reporter.close()
