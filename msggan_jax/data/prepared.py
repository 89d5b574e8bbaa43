"""The prepared set: the one format that training reads.

A directory with a TFDS data set in ArrayRecord files (images as PNG, labels if
there are any), `metadata.json`, a contact sheet and the list of rejected
images. `tfds.builder_from_directory(path)` opens it as well.
"""

import contextlib
import dataclasses
import itertools
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources import array_record

from msggan_jax.data import pixels

METADATA_FILE = "metadata.json"
REJECTED_FILE = "rejected.jsonl"
CONTACT_SHEET_FILE = "contact_sheet.png"

_SPLIT = "train"  # the only one: a prepared set is one split of its source
_SHARD_IMAGES = 4096
_WRITE_IMAGES = 64  # TFDS's writer rewrites its own metadata at every call


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What a prepared set holds and where it came from.

  Attributes:
    source: Kind and place of the source, such as "folder:/data/photos".
    split: Split of the source, empty where it has none.
    crop: "center" or "pad".
    resolution: Side of the images in pixels.
    channels: 1, 3 or 4.
    num_images: Number of images in the set.
    num_rejected: Number of images of the source that were left out.
    class_names: Names of the labels, empty without labels.
    source_sizes: Number of images by shorter side before resizing.
    content_hash: SHA-256 over the SHA-256 of each image's pixels and label, in
      order.
  """

  source: str
  split: str
  crop: str
  resolution: int
  channels: int
  num_images: int
  num_rejected: int
  class_names: tuple[str, ...]
  source_sizes: dict[str, int]
  content_hash: str

  @property
  def num_classes(self) -> int:
    """Number of labels, 0 without labels."""
    return len(self.class_names)


class PreparedSet:
  """Random access to the images of a prepared set; safe to use from threads.

  Attributes:
    path: Directory of the set.
    metadata: What it holds.
  """

  def __init__(self, path: Path, metadata: Metadata):
    """Open the records; use `open_prepared` instead."""
    self.path = path
    self.metadata = metadata
    info = _dataset_info(
      path, metadata.resolution, metadata.channels, metadata.num_classes > 0
    )
    info.read_from_directory(path)
    # The same object as `builder.as_data_source` returns, but unaware of
    # `tfds.testing.mock_data`, which would replace prepared images as well.
    self._records = array_record.ArrayRecordDataSource(
      info, split=_SPLIT, decoders={"image": tfds.decode.SkipDecoding()}
    )

  def __len__(self) -> int:
    """Return the number of images."""
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Read one image.

    Args:
      index: From 0, less than the number of images.

    Returns:
      "image": uint8, (R, R, C); "label": int32 scalar, 0 without labels.

    Raises:
      IndexError: If there is no such image.
    """
    if not 0 <= index < len(self):  # IndexError is what ends a `for`
      raise IndexError(f"image {index} of {len(self)}")
    record = self._records[index]
    return {
      "image": pixels.decode_png(record["image"]),
      "label": np.int32(record.get("label", 0)),
    }

  def summary(self) -> str:
    """Describe the set in a few lines for people."""
    metadata = self.metadata
    sizes = ", ".join(
      f"{size}: {count:,}" for size, count in metadata.source_sizes.items()
    )
    shape = f"{metadata.resolution}x{metadata.resolution}x{metadata.channels}"
    lines = [
      f"source:         {metadata.source}",
      f"images:         {metadata.num_images:,} of {shape}",
      f"classes:        {metadata.num_classes or 'none'}",
      f"shorter sides:  {sizes}",
      f"contact sheet:  {self.path / CONTACT_SHEET_FILE}",
    ]
    if metadata.num_rejected:
      where = self.path / REJECTED_FILE
      lines.append(f"rejected:       {metadata.num_rejected:,}, see {where}")
    return "\n".join(lines)


def is_prepared(path: Path) -> bool:
  """Tell whether a directory is a prepared set."""
  return (path / METADATA_FILE).is_file()


def open_prepared(path: str | Path) -> PreparedSet:
  """Open a prepared set.

  Args:
    path: Its directory.

  Returns:
    The set.

  Raises:
    ValueError: If the directory is no prepared set.
  """
  path = Path(path)
  if not is_prepared(path):
    raise ValueError(f"{path} is not a prepared data set")
  return PreparedSet(path, read_metadata(path))


def read_metadata(path: Path) -> Metadata:
  """Read the metadata of a prepared set."""
  fields = json.loads((path / METADATA_FILE).read_text(encoding="utf-8"))
  fields["class_names"] = tuple(fields["class_names"])
  return Metadata(**fields)


def write_metadata(path: Path, metadata: Metadata) -> None:
  """Write the metadata; the last step, which makes a directory a set."""
  text = json.dumps(dataclasses.asdict(metadata), indent=2)
  (path / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def write_records(
  path: Path,
  records: Iterable[tuple[bytes, int]],
  *,
  resolution: int,
  channels: int,
  has_labels: bool,
) -> None:
  """Write images and labels in the order given.

  Args:
    path: An empty directory.
    records: (contents of a PNG file, label); read one by one.
    resolution: Side of the images in pixels.
    channels: 1, 3 or 4.
    has_labels: Whether to keep the labels.
  """
  writer = tfds.core.SequentialWriter(
    _dataset_info(path, resolution, channels, has_labels),
    max_examples_per_shard=_SHARD_IMAGES,
    file_format="array_record",
  )
  writer.initialize_splits([_SPLIT])
  examples = (
    {"image": png, "label": label} if has_labels else {"image": png}
    for png, label in records
  )
  while chunk := list(itertools.islice(examples, _WRITE_IMAGES)):
    writer.add_examples({_SPLIT: chunk})
  writer.close_all()


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
  """Give a temporary directory that becomes `target` if all goes well.

  Args:
    target: Must not exist, or be an empty directory. If another process
      prepares the same set and is faster, its set stays.

  Yields:
    A directory beside `target`; removed if the block raises.
  """
  temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
  temporary.mkdir(parents=True)
  try:
    yield temporary
    try:
      temporary.rename(target)
    except OSError:
      if not is_prepared(target):
        raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _dataset_info(
  path: Path, resolution: int, channels: int, has_labels: bool
) -> tfds.core.DatasetInfo:
  features = {
    "image": tfds.features.Image(
      shape=(resolution, resolution, channels), encoding_format="png"
    )
  }
  if has_labels:
    features["label"] = np.int64
  identity = tfds.core.DatasetIdentity(
    name="images",
    version=tfds.core.Version("1.0.0"),
    data_dir=path,
    module_name=__name__,
  )
  return tfds.core.DatasetInfo(
    builder=identity, features=tfds.features.FeaturesDict(features)
  )
