"""The prepared set and the loader, on small sets made here."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from msggan_jax import data
from msggan_jax.data import pixels, prepared_set


@pytest.fixture
def numbered_set(tmp_path):
  """A prepared set of 10 images, image i filled with the level i."""

  def make(labels=True):
    path = tmp_path / "numbers"
    path.mkdir()
    writer = prepared_set.RecordWriter(
      path, size=(8, 8), channels=3, has_labels=labels
    )
    for first in (0, 6):  # two shards
      writer.add(
        (pixels.encode_png(np.full((8, 8, 3), i, np.uint8)), 9 - i)
        for i in range(10)[first : first + 6]
      )
    writer.close()
    prepared_set.write_metadata(
      path,
      data.Metadata(
        source="test",
        split="",
        crop="center",
        resolution=8,
        channels=3,
        num_images=10,
        num_rejected=0,
        class_names=tuple("abcdefghij") if labels else (),
        source_sizes={},
        content_hash="",
      ),
    )
    return data.open_prepared(path)

  return make


def read_numbers(loader, steps):
  """Return the numbers of the images in each batch, (steps, B)."""
  batches = [batch["image"][:, 0, 0, 0] for batch in take(loader, steps)]
  loader.close()
  return np.stack(batches)


def take(loader, steps):
  return list(itertools.islice(loader, steps))


def test_prepared_set_reads_images_and_labels(numbered_set):
  images = numbered_set()
  assert len(images) == 10
  assert images.metadata.num_classes == 10
  example = images[3]
  assert example["image"].dtype == np.uint8
  assert example["label"].dtype == np.int32
  np.testing.assert_array_equal(example["image"], np.full((8, 8, 3), 3))
  assert example["label"] == 6


def test_label_is_zero_without_labels(numbered_set):
  images = numbered_set(labels=False)
  assert images.metadata.num_classes == 0
  assert images[3]["label"] == 0


def test_tfds_opens_a_prepared_set(numbered_set):
  builder = tfds.builder_from_directory(numbered_set().path)
  records = builder.as_data_source(
    split="train", decoders={"image": tfds.decode.SkipDecoding()}
  )
  assert [int(record["label"]) for record in records] == list(range(9, -1, -1))


def test_open_prepared_refuses_other_directories(tmp_path):
  with pytest.raises(ValueError, match="not a prepared data set"):
    data.open_prepared(tmp_path)


def test_each_epoch_is_another_permutation(numbered_set):
  loader = data.make_loader(numbered_set(), batch_size=4, seed=0)
  # 15 batches of 4 are 6 epochs of 10, joined without dropping an image.
  epochs = read_numbers(loader, 15).reshape(6, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_batch_depends_on_the_seed_and_the_step_alone(numbered_set):
  images = numbered_set()

  def read(steps, seed=3, batch_size=6, **options):
    options |= {"batch_size": batch_size, "seed": seed}
    return read_numbers(data.make_loader(images, **options), steps)

  whole = read(53)
  for first_step in (1, 4, 50):
    later = read(3, first_step=first_step)
    np.testing.assert_array_equal(later, whole[first_step : first_step + 3])
  for count in (2, 3, 6):
    parts = [
      read(4, first_step=2, process_index=index, process_count=count)
      for index in range(count)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[2:6])
  assert not np.array_equal(read(5, seed=4), whole[:5])


def test_batches_have_images_and_labels(numbered_set):
  loader = data.make_loader(numbered_set(), batch_size=4, seed=0)
  batch = next(loader)
  loader.close()
  assert batch["image"].shape == (4, 8, 8, 3)
  assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
  np.testing.assert_array_equal(
    batch["label"], 9 - batch["image"][:, 0, 0, 0].astype(np.int32)
  )


def test_batch_may_be_larger_than_the_set(numbered_set):
  loader = data.make_loader(numbered_set(), batch_size=25, seed=0)
  counts = np.bincount(read_numbers(loader, 2).ravel(), minlength=10)
  assert counts.tolist() == [5] * 10


def test_uneven_processes_are_refused(numbered_set):
  with pytest.raises(ValueError, match="batch_size: 7"):
    data.make_loader(numbered_set(), batch_size=7, seed=0, process_count=2)


def test_unclosed_loader_ends_with_the_interpreter(numbered_set):
  script = (
    "import sys; from msggan_jax import data; "
    "assert 'jax' not in sys.modules; "
    f"images = data.open_prepared({str(numbered_set().path)!r}); "
    "loader = data.make_loader(images, batch_size=4, seed=0); next(loader); "
    "assert 'tensorflow' not in sys.modules"
  )
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", script],
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert (done.returncode, done.stderr) == (0, "")
