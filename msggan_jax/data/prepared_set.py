"""The prepared set: the one format that training reads.

A directory with a TFDS data set in ArrayRecord files (PNG images or compressed
arrays, optional labels), `metadata.json`, a contact sheet and the list of
rejected images.
`tfds.builder_from_directory(path)` opens it as well.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources import array_record

from msggan_jax.data import holdout, pictures, pixels, reading
from msggan_jax.data import values as ranges
from msggan_jax.models import base_grid as grids
from msggan_jax.runtime import files

METADATA_FILE = "metadata.json"
_INFO_FILE = "dataset_info.json"  # TFDS's
FILES = {METADATA_FILE, _INFO_FILE}  # that identify a set
REJECTED_FILE = "rejected.jsonl"
UNREAD_FILE = "unread.jsonl"
CONTACT_SHEET_FILE = "contact_sheet.png"
DUPLICATES_FILE = "duplicates.jsonl"

_LABELS_FILE = "labels.bin"  # of all images, in order
_LABELS_DTYPE = "<i4"
_SETTINGS = (
  *("source", "split", "crop", "resolution", "channels"),
  *("labels", "holdout", "base_grid", "range", "layout", "group_by"),
)
SPLIT = "train"  # the only one: a prepared set is one split of its source
NAME = "images"  # for TFDS


@dataclasses.dataclass(frozen=True)
class Metadata:
  """Contents and origin of a prepared set."""

  source: str  # kind and place, such as "folder:/data/photos"
  split: str  # of the source, empty where it has none
  crop: str  # "center" or "pad"
  resolution: int  # name of the images' scale; the side of square ones
  channels: int  # of pictures 1, 3 or 4
  num_images: int = 0
  num_rejected: int = 0  # images of the source that were skipped
  class_names: tuple[str, ...] = ()  # empty without labels
  content_hash: str = ""  # SHA-256 of the digests of all images, in order
  labels: str = "none"  # of a folder, see `sources.labels`
  class_counts: tuple[int, ...] = ()  # of the whole set's images
  holdout: float = 0.0  # as in `holdout.check`
  num_holdout: int = 0
  num_duplicates: int = 0  # images listed in `duplicates.jsonl`
  part: str = ""  # "train" or "holdout" of a set with a hold-out
  base_grid: str = grids.SQUARE  # rows and columns of the smallest scale
  # Skipped images by reason.
  rejected: dict[str, int] = dataclasses.field(default_factory=dict)
  # Files of the source that are no images, by reason.
  unread: dict[str, int] = dataclasses.field(default_factory=dict)
  fingerprint: str = ""  # digest of `fingerprint.py`; empty in older sets
  version: int = 0  # of the preparation
  range: str = ""  # as asked for, see `values.parse`; "": pictures
  layout: str = ""  # of the source's arrays
  group_by: str = ""  # of the hold-out, see `holdout.by_pattern`
  # The fields of `values.Range` and of the survey; empty of pictures.
  values: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def value_range(self) -> ranges.Range | None:
    """The range of the values; None of pictures."""
    return ranges.from_dict(self.values, self.channels)

  def view(self, images: np.ndarray, bands: str = "") -> np.ndarray:
    """Return pictures of images like these, uint8 (..., H, W, C)."""
    chosen = pictures.parse_bands(bands, self.channels)
    return pictures.view(images, chosen, colors=not self.values)

  @property
  def dtype(self) -> str:
    """Type of the stored images."""
    return self.value_range.dtype if self.value_range else "uint8"

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the images in pixels."""
    return grids.size_of(self)

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height, width and channels of the stored arrays."""
    return (*self.size, self.channels)

  @property
  def num_classes(self) -> int:
    """Number of labels, 0 without labels."""
    return len(self.class_names)

  @property
  def settings(self) -> dict[str, Any]:
    """What a preparation was asked for; the other fields are its results."""
    return {name: getattr(self, name) for name in _SETTINGS}


class PreparedSet:
  """Random access to the images of a set, from threads; see `open_prepared`."""

  def __init__(
    self, path: Path, metadata: Metadata, numbers: np.ndarray | None = None
  ):
    """Open all images of a set, or those of some numbers in the whole."""
    self.path = path
    self.metadata = metadata
    self._shape, self._dtype = metadata.shape, metadata.dtype
    info = dataset_info(path, metadata)
    try:
      info.read_from_directory(path)
      shards = list(map(Path, info.splits[SPLIT].filepaths))
    except Exception as error:  # of TFDS, protobuf
      raise _damaged(path / _INFO_FILE) from error
    if missing := [shard for shard in shards if not shard.is_file()]:
      raise _damaged(missing[0])
    # The same object as `builder.as_data_source` returns, but unaware of
    # `tfds.testing.mock_data`, which would replace prepared images as well.
    self._records = array_record.ArrayRecordDataSource(
      info, split=SPLIT, decoders={"image": tfds.decode.SkipDecoding()}
    )
    self.numbers = np.arange(len(self._records)) if numbers is None else numbers

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Read "image", (H, W, C), and "label", an int32, 0 without labels.

    ValueError if it is damaged, reading.DiskError if the disk fails repeatedly.
    """
    if not 0 <= index < len(self):  # IndexError ends a `for` loop
      raise IndexError(f"image {index} of {len(self)}")
    number = int(self.numbers[index])
    what = f"image {index} of {self.path}"
    try:
      record = reading.read(lambda: self._records[number], what)
      image = decode(record["image"], self._shape, self._dtype)
      if image.shape != self._shape or image.dtype != self._dtype:
        raise ValueError(f"it is {image.dtype} of shape {image.shape}")
    except reading.DiskError:
      raise
    except Exception as error:  # of ArrayRecord, TFDS, Pillow
      raise ValueError(
        f"{self.path}: image {index} cannot be read: "
        f"{reading.reason_of(error)}; check the disk, delete this folder, "
        "prepare the set again and give the same command"
      ) from error
    return {"image": image, "label": np.int32(record.get("label", 0))}

  def levels(self, index: int) -> np.ndarray:
    """Read one image to look at: uint8, (H, W, C)."""
    return pictures.to_levels(self[index]["image"])


def is_prepared(path: Path) -> bool:
  """Return whether a directory is a prepared set."""
  return all((path / name).is_file() for name in FILES)


def open_prepared(path: str | Path, part: str = holdout.TRAIN) -> PreparedSet:
  """Open the part of a prepared set to train on, or its "holdout"."""
  path = Path(path)
  if not is_prepared(path):
    raise ValueError(f"{path} is not a prepared data set")
  metadata = read_metadata(path)
  if not metadata.holdout:
    if part != holdout.TRAIN:
      raise ValueError(
        f"{path} has no hold-out; prepare it with --holdout=0.1 or "
        "config.dataset.holdout"
      )
    return PreparedSet(path, metadata)
  numbers = holdout.read(path)
  if part == holdout.TRAIN:
    numbers = np.setdiff1d(np.arange(metadata.num_images), numbers)
  metadata = dataclasses.replace(
    metadata,
    part=part,
    num_images=len(numbers),
    content_hash=holdout.hash_of_part(metadata.content_hash, numbers),
  )
  return PreparedSet(path, metadata, numbers)


def content_hash(path: Path) -> str:
  """Return the content hash of a set's images to train on."""
  return open_prepared(path).metadata.content_hash


def read_metadata(path: Path) -> Metadata:
  """Read the metadata of a prepared set."""
  try:
    fields = json.loads((path / METADATA_FILE).read_text(encoding="utf-8"))
    fields.pop("source_sizes", None)  # of older sets
    for name in ("class_names", "class_counts"):
      fields[name] = tuple(fields.get(name, ()))
    metadata = Metadata(**fields)
    if metadata.values and not metadata.value_range:  # they are no colors
      raise ValueError("no range of values")
    return metadata
  except (ValueError, TypeError, AttributeError) as error:
    raise _damaged(path / METADATA_FILE) from error


def _damaged(file: Path) -> ValueError:
  return ValueError(
    f"{file} is missing, damaged, or of a newer version; delete the folder and "
    "prepare the set again"
  )


def write_metadata(path: Path, metadata: Metadata) -> None:
  """Write the metadata; the last step, which makes a directory a set."""
  text = json.dumps(dataclasses.asdict(metadata), indent=2)
  files.sync(path)
  files.write(path / METADATA_FILE, text + "\n")


def is_png(channels: int, dtype: str) -> bool:
  """Return whether images are stored as PNG."""
  return dtype == "uint8" and channels in pixels.MODES


def encode(image: np.ndarray) -> bytes:
  """Encode a stored image without loss: as PNG if it can be one."""
  if is_png(image.shape[-1], str(image.dtype)):
    return pixels.encode_png(image)
  return zlib.compress(np.ascontiguousarray(image).tobytes(), 1)


def decode(data: bytes, shape: tuple[int, ...], dtype: str) -> np.ndarray:
  """Decode what `encode` made of an image of a shape and type."""
  if is_png(shape[-1], dtype):
    return pixels.decode_png(data)
  return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)


def digest_of(image: np.ndarray, label: int) -> bytes:
  """Return the SHA-256 of an image's pixels and label, 32 bytes."""
  made = hashlib.sha256(np.ascontiguousarray(image))
  made.update(label.to_bytes(8, "little", signed=True))
  return made.digest()


def content_hash_of(digests: Sequence[str]) -> str:
  """Return the content hash of a set with these digests, hexadecimal."""
  return hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()


def write_labels(path: Path, labels: Sequence[int]) -> None:
  """Write the labels of all images of a set into its folder."""
  # Not tofile, which does not see every full disk.
  files.write(path / _LABELS_FILE, np.array(labels, _LABELS_DTYPE).tobytes())


def read_labels(images: PreparedSet) -> np.ndarray:
  """Return the label of each image of a set, int32.

  A set older than the labels' file is read record by record.
  """
  path = images.path / _LABELS_FILE
  labels = np.fromfile(path, _LABELS_DTYPE) if path.is_file() else ()
  if len(labels) > images.numbers.max():
    return labels[images.numbers]
  return np.array([item["label"] for item in images], _LABELS_DTYPE)


def dataset_info(path: Path, metadata: Metadata) -> tfds.core.DatasetInfo:
  """Return how TFDS reads and writes the records."""
  shape, dtype = metadata.shape, metadata.dtype
  if is_png(shape[-1], dtype):
    feature = tfds.features.Image(shape=shape, encoding_format="png")
  else:
    feature = tfds.features.Tensor(
      shape=shape, dtype=np.dtype(dtype).type, encoding="zlib"
    )
  features: dict[str, Any] = {"image": feature}
  if metadata.num_classes:
    features["label"] = np.int64
  identity = tfds.core.DatasetIdentity(
    name=NAME,
    version=tfds.core.Version("1.0.0"),
    data_dir=path,
    module_name=__name__,
  )
  return tfds.core.DatasetInfo(
    builder=identity, features=tfds.features.FeaturesDict(features)
  )
