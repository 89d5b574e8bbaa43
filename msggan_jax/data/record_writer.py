"""Write the records of a prepared set, shard by shard."""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer, naming

from msggan_jax.data import prepared_set, reading
from msggan_jax.runtime import files


class RecordWriter:
  """Writes images and labels, shard by shard.

  Unlike TFDS's own writer: a shard exists only when it is complete, another
  process can resume writing, and equal records make equal bytes.
  """

  def __init__(
    self,
    path: Path,
    metadata: prepared_set.Metadata,
    lengths: Sequence[int] = (),
  ):
    """Continue after the shards of earlier writers, of so many images each."""
    self._path = path
    self._has_labels = metadata.num_classes > 0
    self._info = prepared_set.dataset_info(path, metadata)
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
    self._lengths = [*lengths]

  def add(self, records: Iterable[tuple[bytes, int]]) -> Path | None:
    """Write the next shard of (encoded image, label), if there are any."""
    records = iter(records)
    first = next(records, None)
    if first is None:
      return None
    path, count = self._shard_path(len(self._lengths)), 0
    with files.replacing(path) as temporary:
      # Groups of one, as Grain's random access needs them.
      writer = array_record_module.ArrayRecordWriter(
        str(temporary), "group_size:1"
      )
      try:
        with contextlib.closing(writer):
          for encoded, label in itertools.chain([first], records):
            writer.write(self._serialize(encoded, label))
            count += 1
      except RuntimeError as error:  # ArrayRecord's error for a full disk
        raise OSError(
          f"cannot write {path}: {reading.reason_of(error)}"
        ) from error
    self._lengths.append(count)
    return path

  def close(self) -> None:
    """Write the metadata that TFDS needs to read the shards."""
    paths = map(self._shard_path, range(len(self._lengths)))
    split = tfds.core.SplitInfo(
      name=prepared_set.SPLIT,
      shard_lengths=self._lengths,
      num_bytes=sum(path.stat().st_size for path in paths),
      filename_template=self._template,
    )
    self._info.set_splits(tfds.core.SplitDict([split]))
    self._info.write_to_directory(self._path)

  def _shard_path(self, number: int) -> Path:
    template = self._template
    return Path(template.sharded_filepath(shard_index=number, num_shards=None))

  def _serialize(self, encoded: bytes, label: int) -> bytes:
    example = {"image": encoded}
    if self._has_labels:
      example["label"] = np.int64(label)
    example = self._serializer.get_tf_example(example)
    return example.SerializeToString(deterministic=True)
