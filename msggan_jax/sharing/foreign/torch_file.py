"""Read the tensors of PyTorch files, without PyTorch.

PyTorch before 1.6 wrote a sequence of pickles followed by raw numbers; later
versions write a zip archive. Both formats use the same inert stand-ins.
"""

import dataclasses
import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from msggan_jax.checkpoints.tensors import quote
from msggan_jax.sharing.foreign import restricted
from msggan_jax.sharing.foreign.restricted import Constructor

_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001
_MAX_DIMENSIONS = 16
_BFLOAT16 = "bfloat16"


@dataclasses.dataclass(frozen=True)
class _StorageType:
  """A storage's element type: a NumPy type or bfloat16."""

  name: str

  @property
  def stored(self) -> np.dtype:
    return np.dtype("<u2" if self.name == _BFLOAT16 else f"<{self.name}")


@dataclasses.dataclass
class _Storage:
  """A 1-D array that tensors are views of; filled after the pickle is read."""

  type: _StorageType
  key: str
  count: int
  values: np.ndarray | None = None

  def fill(self, raw: bytes) -> None:
    """Set all elements from raw bytes."""
    values = np.frombuffer(raw, self.type.stored)
    if self.type.name == _BFLOAT16:
      # bfloat16 is the upper half of a float32.
      values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    self.values = values

  @property
  def num_bytes(self) -> int:
    return self.count * self.type.stored.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A view of a storage; offset and strides in elements."""

  storage: _Storage
  offset: int
  shape: tuple
  strides: tuple

  def to_array(self) -> np.ndarray:
    """Return the view; raise ValueError if it exceeds its storage."""
    count = self.storage.count
    numbers = (self.offset, *self.shape, *self.strides)
    if (
      len(self.shape) != len(self.strides)
      or len(self.shape) > _MAX_DIMENSIONS
      or not all(type(n) is int and 0 <= n <= count for n in numbers)
      or math.prod(self.shape) > count
      or 0 in self.shape
    ):
      raise ValueError("its shape does not match its data")
    last = self.offset + sum(
      (size - 1) * stride
      for size, stride in zip(self.shape, self.strides, strict=True)
    )
    if last >= count:
      raise ValueError("it exceeds its data")
    values = self.storage.values
    return np.lib.stride_tricks.as_strided(
      values[self.offset :],
      self.shape,
      [stride * values.itemsize for stride in self.strides],
      writeable=False,
    )


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
  """Read the tensors of a .pth file; nothing in the file is executed.

  Args:
    path: A state dict saved by `torch.save`, or a dict that contains one under
      "state_dict".

  Returns:
    Name to read-only array, in the file's order; bfloat16 becomes float32.

  Raises:
    FileNotFoundError: If the file does not exist.
    ValueError: If the file is damaged or contains anything but tensors.
  """
  data = restricted.read_bytes(path)
  try:
    is_zip = data.startswith(b"PK\x03\x04")
    content = _read_zip(data) if is_zip else _read_old(data)
    return _state_dict(content)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def _state_dict(content: Any) -> dict[str, np.ndarray]:
  if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
    content = content["state_dict"]
  if not isinstance(content, dict) or not content:
    raise ValueError("the file contains no state dict")
  arrays = {}
  for name, tensor in content.items():
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
      raise ValueError(f"the entry {quote(name)} is no tensor")
    try:
      arrays[name] = tensor.to_array()
    except ValueError as error:
      raise ValueError(
        f"the tensor {quote(name)} is damaged: {error}"
      ) from None
  return arrays


class _Storages:
  """The storages that a pickle refers to, by key."""

  def __init__(self, max_bytes: int):
    self.by_key: dict[str, _Storage] = {}
    self._bytes_left = max_bytes

  def find(self, persistent_id: Any) -> _Storage:
    """Return the storage of a persistent id."""
    match persistent_id:
      # In the old format a further element makes a view of another storage.
      case (
        "storage",
        _StorageType() as kind,
        str(key),
        str(),
        int(count),
        *rest,
      ) if rest in ([], [None]):
        pass
      case _:
        raise ValueError("the pickle refers to data in an unknown form")
    storage = self.by_key.get(key)
    if storage is None:
      storage = _Storage(kind, key, count)
      if count < 0 or storage.num_bytes > self._bytes_left:
        raise ValueError("the tensors are larger than the file")
      self._bytes_left -= storage.num_bytes
      self.by_key[key] = storage
    if (storage.type, storage.count) != (kind, count):
      raise ValueError(
        f"the data {quote(key)} have conflicting types or lengths"
      )
    return storage


def _read_zip(data: bytes) -> Any:
  try:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = [n for n in archive.namelist() if n.count("/") == 1]
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(f"the zip archive is damaged: {error}") from error
  pickles = [name for name in names if name.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise ValueError(
      "the zip archive is not PyTorch's: it needs exactly one */data.pkl"
    )
  prefix = pickles[0].removesuffix("data.pkl")
  if f"{prefix}byteorder" in names:
    _check_little_endian(
      _member(data, archive, f"{prefix}byteorder") == b"little"
    )
  storages = _Storages(len(data))
  content, _ = restricted.load(
    _member(data, archive, pickles[0]), _KNOWN, persistent=storages.find
  )
  for storage in storages.by_key.values():
    raw = _member(data, archive, f"{prefix}data/{storage.key}")
    if len(raw) != storage.num_bytes:
      raise ValueError(f"the data {quote(storage.key)} have a wrong length")
    storage.fill(raw)
  return content


def _member(data: bytes, archive: zipfile.ZipFile, name: str) -> bytes:
  try:
    info = archive.getinfo(name)
    # PyTorch does not compress, so no member is larger than the file.
    if info.compress_type == zipfile.ZIP_STORED and info.file_size <= len(data):
      return archive.read(info)
  except KeyError:
    raise ValueError(f"the zip archive lacks {quote(name)}") from None
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(f"the zip archive is damaged: {error}") from error
  raise ValueError(f"{quote(name)} in the zip archive is compressed")


def _read_old(data: bytes) -> Any:
  magic, position = restricted.load(data, _KNOWN)
  if magic != _OLD_MAGIC:
    raise ValueError("this is no PyTorch file")
  version, position = restricted.load(data, _KNOWN, position=position)
  if version != _OLD_VERSION:
    raise ValueError(f"the format version is {quote(version)}, expected 1001")
  system, position = restricted.load(data, _KNOWN, position=position)
  _check_little_endian(
    isinstance(system, dict) and system.get("little_endian") is True
  )
  storages = _Storages(len(data))
  content, position = restricted.load(
    data, _KNOWN, position=position, persistent=storages.find
  )
  keys, position = restricted.load(data, _KNOWN, position=position)
  if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
    raise ValueError("the file's list of data is damaged")
  if len(keys) != len(storages.by_key) or set(keys) != set(storages.by_key):
    raise ValueError("the file's list of data does not match its tensors")
  for key in keys:
    storage = storages.by_key[key]
    count, raw = data[position : position + 8], position + 8
    position = raw + storage.num_bytes
    if position > len(data):
      raise ValueError("the file ends in the middle of its data")
    if struct.unpack("<q", count)[0] != storage.count:
      raise ValueError(f"the data {quote(key)} have a wrong length")
    storage.fill(data[raw:position])
  return content


def _check_little_endian(is_little: bool) -> None:
  if not is_little:
    raise ValueError("the file is not little-endian")


def _ordered_dict(arguments: tuple) -> dict:
  if arguments:
    raise ValueError("an OrderedDict is built in an unknown form")
  return {}


def _rebuild_tensor(arguments: tuple) -> _Tensor:
  match arguments:
    # The remaining arguments are requires_grad and hooks.
    case (_Storage() as s, int(offset), tuple(shape), tuple(strides), *_):
      return _Tensor(s, offset, shape, strides)
  raise ValueError("a tensor is built in an unknown form")


_KNOWN = {
  "collections.OrderedDict": Constructor(_ordered_dict),
  "torch._utils._rebuild_tensor_v2": Constructor(_rebuild_tensor),
  "torch.DoubleStorage": _StorageType("f8"),
  "torch.FloatStorage": _StorageType("f4"),
  "torch.HalfStorage": _StorageType("f2"),
  "torch.BFloat16Storage": _StorageType(_BFLOAT16),
  "torch.LongStorage": _StorageType("i8"),
  "torch.IntStorage": _StorageType("i4"),
  "torch.ShortStorage": _StorageType("i2"),
  "torch.CharStorage": _StorageType("i1"),
  "torch.ByteStorage": _StorageType("u1"),
  "torch.BoolStorage": _StorageType("?"),
}
