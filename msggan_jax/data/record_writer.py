"""Write the records of a prepared set, shard by shard."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer, naming

from msggan_jax.data import prepared_set, reading
from msggan_jax.runtime import files


@dataclasses.dataclass(frozen=True)
class Shard:
  """A finished file of records."""

  name: str = ""
  num_images: int = 0
  num_bytes: int = 0
  file_bytes: int = 0

  def is_in(self, path: Path) -> bool:
    """Return whether a directory has the complete file."""
    file = path / self.name
    return not self.name or (
      file.is_file() and file.stat().st_size == self.file_bytes
    )


class RecordWriter:
  """Writes images and labels, shard by shard.

  Unlike TFDS's own writer: a shard exists only when it is complete, another
  process can resume writing, and equal records make equal bytes.
  """

  def __init__(
    self,
    path: Path,
    *,
    size: tuple[int, int],
    channels: int,
    dtype: str = "uint8",
    has_labels: bool,
    shards: Iterable[Shard] = (),
  ):
    """Continue after the shards of earlier writers, in order."""
    self._path = path
    self._has_labels = has_labels
    self._info = prepared_set.dataset_info(
      path, (*size, channels), dtype, has_labels=has_labels
    )
    self._info.set_file_format("array_record")
    self._serializer = example_serializer.ExampleSerializer(
      self._info.features.get_serialized_info()
    )
    self._template = naming.ShardedFileTemplate(
      dataset_name=prepared_set.NAME,
      data_dir=path,
      split=prepared_set.SPLIT,
      filetype_suffix="array_record",
      template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    )
    self._shards = [shard for shard in shards if shard.num_images]

  def add(self, records: Iterable[tuple[bytes, int]]) -> Shard:
    """Write the next shard of (encoded image, label), if there are any."""
    records = iter(records)
    first = next(records, None)
    if first is None:
      return Shard()
    path = Path(
      self._template.sharded_filepath(
        shard_index=len(self._shards), num_shards=None
      )
    )
    num_images = num_bytes = 0
    with files.replacing(path) as temporary:
      # Groups of one, as Grain's random access needs them.
      writer = array_record_module.ArrayRecordWriter(
        str(temporary), "group_size:1"
      )
      try:
        with contextlib.closing(writer):
          for encoded, label in itertools.chain([first], records):
            serialized = self._serialize(encoded, label)
            writer.write(serialized)
            num_images += 1
            num_bytes += len(serialized)
      except RuntimeError as error:  # ArrayRecord's error for a full disk
        raise OSError(
          f"cannot write {path}: {reading.reason_of(error)}"
        ) from error
    file_bytes = path.stat().st_size
    self._shards.append(Shard(path.name, num_images, num_bytes, file_bytes))
    return self._shards[-1]

  def close(self) -> None:
    """Write the metadata that TFDS needs to read the shards."""
    split = tfds.core.SplitInfo(
      name=prepared_set.SPLIT,
      shard_lengths=[shard.num_images for shard in self._shards],
      num_bytes=sum(shard.num_bytes for shard in self._shards),
      filename_template=self._template,
    )
    self._info.set_splits(tfds.core.SplitDict([split]))
    self._info.write_to_directory(self._path)

  def _serialize(self, encoded: bytes, label: int) -> bytes:
    example = {"image": encoded}
    if self._has_labels:
      example["label"] = np.int64(label)
    example = self._serializer.get_tf_example(example)
    return example.SerializeToString(deterministic=True)
