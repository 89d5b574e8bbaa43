"""Read the tensors of PyTorch files, without PyTorch.

PyTorch before 1.6 wrote a sequence of pickles followed by raw numbers; later
versions write a zip archive. Both use the same pickles.
"""

import dataclasses
import functools
import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from msggan_jax.checkpoints.tensors import quote
from msggan_jax.sharing.foreign import restricted
from msggan_jax.sharing.foreign.restricted import Global, Object

_ZIP = b"PK\x03\x04"
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001


@dataclasses.dataclass
class _Storage:
  """A 1-D array that tensors are views of; filled after the pickle is read."""

  dtype: np.dtype
  count: int
  values: np.ndarray | None = None

  @property
  def num_bytes(self) -> int:
    return self.count * self.dtype.itemsize


def _view(
  storage: _Storage, offset: int, shape: tuple, strides: tuple
) -> np.ndarray:
  """Return a view of a storage; offset and strides in elements.

  ValueError if it exceeds its storage.
  """
  count = storage.count
  numbers = (offset, *shape, *strides)
  if (
    len(shape) != len(strides)
    or not all(type(n) is int and 0 <= n <= count for n in numbers)
    or math.prod(shape) > count
    or 0 in shape
  ):
    raise ValueError("its shape does not match its data")
  values = storage.values
  offset, *strides = (n * values.itemsize for n in (offset, *strides))
  # NumPy refuses a view beyond its buffer.
  return np.ndarray(shape, values.dtype, values, offset, strides)


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
  """Read a state dict, or one under "state_dict"; nothing is executed.

  Returns:
    Name to array, in the file's order.

  Raises:
    ValueError: If the file is damaged or contains anything but tensors.
  """
  data = restricted.read_bytes(path)
  if not data.startswith((_ZIP, restricted.PICKLE)):
    raise ValueError(f"{path}: not a PyTorch file, neither a zip nor a pickle")
  try:
    is_zip = data.startswith(_ZIP)
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
  for name, value in content.items():
    match value:
      # The remaining arguments are requires_grad and hooks.
      case Object(
        "torch._utils._rebuild_tensor_v2",
        (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_),
      ) if isinstance(name, str):
        pass
      case _:
        raise ValueError(f"the entry {quote(name)} is not a tensor")
    try:
      arrays[name] = _view(storage, offset, shape, strides)
    except ValueError as error:
      raise ValueError(
        f"the tensor {quote(name)} is damaged: {error}"
      ) from None
  return arrays


class _Storages(dict[str, _Storage]):
  """The storages that a pickle refers to, by key."""

  def __init__(self, max_bytes: int):
    super().__init__()
    self._bytes_left = max_bytes

  def find(self, persistent_id: Any) -> _Storage:
    match persistent_id:
      # In the old format a further element makes a view of another storage.
      case ("storage", Global(name), str(key), _, int(count), *view) if (
        name in _TYPES
      ):
        dtype = _TYPES[name]
      case _:
        raise ValueError("the pickle refers to data in an unknown form")
    if view not in ([], [None]):
      raise ValueError("the pickle refers to a view of data")
    if key not in self:
      storage = _Storage(dtype, count)
      if count < 0 or storage.num_bytes > self._bytes_left:
        raise ValueError("the tensors are larger than the file")
      self._bytes_left -= storage.num_bytes
      self[key] = storage
    if (self[key].dtype, self[key].count) != (dtype, count):
      raise ValueError(
        f"the data {quote(key)} have conflicting types or lengths"
      )
    return self[key]


def _read_zip(data: bytes) -> Any:
  try:
    archive = zipfile.ZipFile(io.BytesIO(data))
    infos = archive.infolist()
    # PyTorch does not compress, so all members are no larger than the file.
    is_plain = all(info.compress_type == zipfile.ZIP_STORED for info in infos)
    is_plain = is_plain and sum(info.file_size for info in infos) <= len(data)
    members = {i.filename: archive.read(i) for i in infos if is_plain}
  except Exception as error:  # zipfile raises many types for damaged files
    raise ValueError(f"the zip archive is damaged: {error}") from error
  if not is_plain:
    raise ValueError("the zip archive is compressed, which PyTorch's are not")
  pickles = [
    name
    for name in members
    if name.endswith("/data.pkl") and name.count("/") == 1
  ]
  if len(pickles) != 1:
    raise ValueError(
      "the zip archive is not PyTorch's: it needs exactly one */data.pkl"
    )
  prefix = pickles[0].removesuffix("data.pkl")
  if members.get(f"{prefix}byteorder", b"little") != b"little":
    raise ValueError("the file is not little-endian")
  storages = _Storages(len(data))
  pickled = io.BytesIO(members[pickles[0]])
  content = restricted.load(pickled, _KNOWN, storages.find)
  for key, storage in storages.items():
    raw = members.get(f"{prefix}data/{key}")
    if raw is None:
      raise ValueError(f"the zip archive lacks the data {quote(key)}")
    if len(raw) != storage.num_bytes:
      raise ValueError(f"the data {quote(key)} have a wrong length")
    storage.values = np.frombuffer(raw, storage.dtype)
  return content


def _read_old(data: bytes) -> Any:
  file = io.BytesIO(data)
  load = functools.partial(restricted.load, file, _KNOWN)
  if load() != _OLD_MAGIC:
    raise ValueError("this is not a PyTorch file")
  version = load()
  if version != _OLD_VERSION:
    raise ValueError(f"the format version is {quote(version)}, expected 1001")
  system = load()
  if not isinstance(system, dict) or system.get("little_endian") is not True:
    raise ValueError("the file is not little-endian")
  storages = _Storages(len(data))
  content = load(storages.find)
  keys = load()
  if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
    raise ValueError("the file's list of data is damaged")
  if sorted(keys) != sorted(storages):
    raise ValueError("the file's list of data does not match its tensors")
  for key in keys:
    storage = storages[key]
    if file.read(8) != struct.pack("<q", storage.count):
      raise ValueError(f"the data {quote(key)} have a wrong length")
    raw = file.read(storage.num_bytes)
    if len(raw) != storage.num_bytes:
      raise ValueError("the file ends in the middle of its data")
    storage.values = np.frombuffer(raw, storage.dtype)
  return content


_TYPES = {
  "torch.DoubleStorage": np.dtype("<f8"),
  "torch.FloatStorage": np.dtype("<f4"),
  "torch.HalfStorage": np.dtype("<f2"),
  "torch.LongStorage": np.dtype("<i8"),
  "torch.IntStorage": np.dtype("<i4"),
  "torch.ShortStorage": np.dtype("<i2"),
  "torch.CharStorage": np.dtype("i1"),
  "torch.ByteStorage": np.dtype("u1"),
  "torch.BoolStorage": np.dtype("?"),
}
_KNOWN = {
  *("collections.OrderedDict", "torch._utils._rebuild_tensor_v2"),
  *_TYPES,
}
