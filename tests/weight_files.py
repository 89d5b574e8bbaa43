"""Writers of the public versions' weight files, without their frameworks."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

TORCH_TYPES = {
  **{np.dtype("f4"): "FloatStorage", np.dtype("f8"): "DoubleStorage"},
  **{np.dtype("f2"): "HalfStorage", np.dtype("i8"): "LongStorage"},
}


def install_stand_ins(monkeypatch):
  """Make modules so that pickle writes the frameworks' global names."""
  for name in (
    *("torch", "torch._utils", "dnnlib", "dnnlib.tflib", "dnnlib.util"),
    "dnnlib.tflib.network",
  ):
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
  for name in TORCH_TYPES.values():
    _define("torch", type(name, (), {}))
  _define("torch._utils", _rebuild_tensor_v2)
  _define("dnnlib.tflib.network", Network)
  _define("dnnlib.util", EasyDict)


def _define(module, thing):
  thing.__module__ = module
  setattr(sys.modules[module], thing.__name__, thing)


def _rebuild_tensor_v2(*arguments):
  raise AssertionError("a file has been executed")


class Tensor:
  """A contiguous tensor, or a view as the arguments say."""

  def __init__(self, array, shape=None, strides=None, offset=0):
    self.storage = np.ascontiguousarray(array)
    self.shape = self.storage.shape if shape is None else shape
    self.strides = strides or tuple(
      int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape))
    )
    self.offset = offset
    self.kind = TORCH_TYPES[self.storage.dtype]

  def __reduce__(self):
    view = (Storage(self), self.offset, self.shape, self.strides)
    hooks = collections.OrderedDict()
    return _rebuild_tensor_v2, (*view, False, hooks)


class Storage:
  """What a tensor is a view of."""

  def __init__(self, tensor):
    self.array, self.kind = tensor.storage, tensor.kind


def torch_bytes(content, is_zip, count=None):
  """Return the bytes of `torch.save(content)`, a zip since PyTorch 1.6.

  `count` is a false number of elements for all storages.
  """
  stored = []

  class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
      if not isinstance(thing, Storage):
        return None
      stored.append(thing.array)
      kind = getattr(sys.modules["torch"], thing.kind)
      size = thing.array.size if count is None else count
      id = ("storage", kind, str(len(stored) - 1), "cpu", size)
      return id if is_zip else (*id, None)

  if isinstance(content, dict):
    content = collections.OrderedDict(
      (k, Tensor(v) if isinstance(v, np.ndarray) else v)
      for k, v in content.items()
    )
    content._metadata = collections.OrderedDict({"": {"version": 1}})
  buffer = io.BytesIO()
  Pickler(buffer, protocol=2).dump(content)
  if is_zip:
    return zip_bytes(buffer.getvalue(), [x.tobytes() for x in stored])
  system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
  parts = [
    pickle.dumps(0x1950A86A20F9469CFC6C, 2),
    pickle.dumps(1001, 2),
    pickle.dumps(system, 2),
    buffer.getvalue(),
    pickle.dumps([str(i) for i in range(len(stored))], 2),
  ]
  for array in stored:
    size = array.size if count is None else count
    parts += [struct.pack("<q", size), array.tobytes()]
  return b"".join(parts)


def zip_bytes(pickled, stored=(), compression=zipfile.ZIP_STORED):
  """Return a zip file as PyTorch lays it out."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", compression) as archive:
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("archive/byteorder", "little")
    for i, raw in enumerate(stored):
      archive.writestr(f"archive/data/{i}", raw)
    archive.writestr("archive/version", "3\n")
  return buffer.getvalue()


class EasyDict(dict):
  """The official code's dict."""


class Network:
  """The official code's network; pickles like it."""

  def __init__(self, name, static_kwargs, variables, components=None):
    self.state = {
      "num_inputs": 2,
      "version": 3,
      "name": name,
      "static_kwargs": EasyDict(static_kwargs),
      "components": EasyDict(components or {}),
      "build_module_src": "raise SystemExit('code of a weight file was run')",
      "build_func_name": "G_style",
      "variables": list(variables.items()),
    }

  def __getstate__(self):
    return self.state
