"""The prepared set and the loader, on small sets made here."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from msggan_jax import data
from msggan_jax.data import pixels, prepared_set


@pytest.fixture
def numbered_set(tmp_path):
  """A prepared set of 10 images, image i filled with the level i."""

  writer = prepared_set.RecordWriter(
    tmp_path, size=(8, 8), channels=3, has_labels=True
  )
  for first in (0, 6):  # two shards
    writer.add(
      (pixels.encode_png(np.full((8, 8, 3), i, np.uint8)), 9 - i)
      for i in range(10)[first : first + 6]
    )
  writer.close()
  metadata = data.Metadata(
    *("test", "", "center", 8, 3),
    num_images=10,
    class_names=tuple("abcdefghij"),
  )
  prepared_set.write_metadata(tmp_path, metadata)
  return data.open_prepared(tmp_path)


def read_numbers(loader, steps):
  """Return the numbers of the images in each batch, (steps, B)."""
  batches = [*itertools.islice(loader, steps)]
  loader.close()
  for batch in batches:
    assert batch["image"].shape[1:] == (8, 8, 3)
    assert (batch["image"].dtype, batch["label"].dtype) == ("u1", "i4")
    numbers = batch["image"][:, 0, 0, 0].astype(np.int32)
    np.testing.assert_array_equal(batch["label"], 9 - numbers)
  return np.stack([batch["image"][:, 0, 0, 0] for batch in batches])


@pytest.mark.parametrize("batch_size", [4, 20])
def test_each_epoch_is_another_permutation(numbered_set, batch_size):
  loader = data.make_loader(numbered_set, batch_size=batch_size, seed=0)
  # 15 batches of 4 are 6 epochs of 10, joined without dropping an image.
  epochs = read_numbers(loader, 60 // batch_size).reshape(6, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_batch_depends_on_the_seed_and_the_step_alone(numbered_set):
  images = numbered_set

  def read(steps, seed=3, batch_size=6, **options):
    options |= {"batch_size": batch_size, "seed": seed}
    return read_numbers(data.make_loader(images, **options), steps)

  whole = read(53)
  for first_step in (4, 50):
    later = read(3, first_step=first_step)
    np.testing.assert_array_equal(later, whole[first_step : first_step + 3])
  for count in (2, 3):
    parts = [
      read(4, first_step=2, process_index=index, process_count=count)
      for index in range(count)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[2:6])
  assert not np.array_equal(read(5, seed=4), whole[:5])


def test_uneven_processes_and_other_folders_are_refused(numbered_set):
  with pytest.raises(ValueError, match="not a prepared data set"):
    data.open_prepared(numbered_set.path.parent)
  with pytest.raises(ValueError, match="batch_size: 7"):
    data.make_loader(numbered_set, batch_size=7, seed=0, process_count=2)


def test_unclosed_loader_ends_with_the_interpreter(numbered_set):
  script = (
    "import sys; from msggan_jax import data; "
    "assert 'jax' not in sys.modules; "
    f"images = data.open_prepared({str(numbered_set.path)!r}); "
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
