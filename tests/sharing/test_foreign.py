"""Weight files: torch formats, TF pickles, hostile ones; defaults."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from msggan_jax.models import networks
from msggan_jax.sharing.foreign import msg_stylegan_tf, restricted
from msggan_jax.sharing.foreign.msg_stylegan_tf import Network
from msggan_jax.sharing.foreign.torch_file import read_torch
from tests import fuzzing, weight_files
from tests.conftest import load_config
from tests.models.test_networks import count
from tests.weight_files import Tensor, torch_bytes, zip_bytes

pytestmark = pytest.mark.usefixtures("stand_ins")


def save(folder, data, name="weights"):
  path = folder / name
  path.write_bytes(data)
  return path


def normal(seed, *shape):
  return np.random.RandomState(seed).randn(*shape).astype(np.float32)


# What is read.


@pytest.mark.parametrize("is_zip", [True, False])
def test_torch_files(tmp_path, is_zip):
  a, b = normal(0, 2, 3), normal(1, 6)
  content = {
    "a": a,
    "transposed": Tensor(b, (3, 2), (1, 3)),
    "part": Tensor(b, (2,), (1,), offset=4),
    "scalar": Tensor(b, (), offset=5),
    "half": np.array([1.5, -2.0], np.float16),
    "double": np.array([1.5, -2.0]),
    "long": np.arange(3),
  }
  tensors = read_torch(save(tmp_path, torch_bytes(content, is_zip)))
  assert list(tensors) == list(content)
  np.testing.assert_array_equal(tensors["a"], a)
  np.testing.assert_array_equal(tensors["transposed"], b.reshape(2, 3).T)
  np.testing.assert_array_equal(tensors["part"], b[4:])
  assert tensors["scalar"] == b[5]
  for name in ("half", "double", "long"):
    np.testing.assert_array_equal(tensors[name], content[name])
  nested = {"epoch": 3, "state_dict": {"x": Tensor(a)}}
  tensors = read_torch(save(tmp_path, torch_bytes(nested, is_zip)))
  np.testing.assert_array_equal(tensors["x"], a)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_tf_pickles_of_every_age(tmp_path, module):
  arrays = {"x": normal(0, 2, 3), "f": np.asfortranarray(normal(1, 2, 3))}
  network = weight_files.Network(
    *("G", {"resolution": np.int64(8)}),
    arrays | {"big": arrays["x"].astype(">f4")},
  )
  for protocol in (2, 3, 4):
    data = pickle.dumps((network,) * 3, protocol)
    if protocol < 4:  # Later ones state the length of every name.
      data = data.replace(b"numpy._core.", module.encode() + b".")
    weights = msg_stylegan_tf.read(save(tmp_path, data))
    assert weights.fields["resolution"] == 8
    for name in ("x", "f"):
      np.testing.assert_array_equal(weights.ema[name], arrays[name])
    np.testing.assert_array_equal(weights.ema["big"], arrays["x"])


# What is refused.


class Call:
  """Pickles as a call."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


MARKER = "msggan_jax_was_executed"
TOUCH = f"touch {MARKER}".encode()
LENGTH = bytes([len(TOUCH)])
HOSTILE = {
  "os.system": pickle.dumps(Call(os.system, f"touch {MARKER}"), 2),
  "stack_global": pickle.dumps(Call(os.system, f"touch {MARKER}"), 4),
  "eval": pickle.dumps(Call(eval, f"open({MARKER!r}, 'w')")),
  "nested": pickle.dumps({"a": [Call(dict, Call(os.system, "touch x"))]}, 2),
  "numpy.load": pickle.dumps(Call(np.load, MARKER), 2),
  "getattr": pickle.dumps(Call(getattr, "", "format"), 2),
  "inst": b"(U" + LENGTH + TOUCH + b"ios\nsystem\n.",
  "obj": b"(cos\nsystem\nU" + LENGTH + TOUCH + b"o.",
  "memoized": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.",
  "extension": b"\x80\x02\x82\x01.",
  "attribute": b"\x80\x02ccollections\nOrderedDict.__init__.__globals__\n.",
}


# A valid start of PyTorch's old format, before the pickle of its tensors.
OLD_START = torch_bytes({}, is_zip=False).split(b"\x80\x02ccoll")[0]


def test_nothing_is_executed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, data in HOSTILE.items():
    problem = r"uses 'posix\.system'" if name == "os.system" else ""
    for content in (data, OLD_START + data, zip_bytes(data)):
      path = save(tmp_path, content)
      with pytest.raises(ValueError, match=f"{path}: .*{problem}"):
        read_torch(path)
    with pytest.raises(ValueError, match=f"{path}: .*{problem}"):
      msg_stylegan_tf.read(save(tmp_path, data))
    assert sorted(os.listdir(tmp_path)) == ["weights"], name


IMPOSSIBLE_VIEWS = (
  ((3, 2), (2, 1), 1),  # beyond the data
  ((2**40,), (0,), 0),
  ((100, 100), (0, 0), 0),
  ((-1, 6), (1, 1), 0),
  ((2, 3), (-3, 1), 0),
  ((2,), (1,), -1),
  ((), (), 6),
  ((2, 3), (1,), 0),  # of other lengths
  (("2", 3), (3, 1), 0),
  ((1,) * 100, (1,) * 100, 0),
  ((1,) * 10**4, (1,) * 10**4, 0),
)


@pytest.mark.parametrize("is_zip", [True, False])
def test_impossible_tensors(tmp_path, is_zip):
  for view in IMPOSSIBLE_VIEWS:
    tensor = Tensor(normal(0, 6), *view)
    path = save(tmp_path, torch_bytes({"x": tensor}, is_zip))
    with pytest.raises(ValueError, match="'x' is damaged"):
      read_torch(path)
  for size in (2**40, -1, 5, 7):
    data = torch_bytes({"x": normal(0, 6)}, is_zip, size)
    with pytest.raises(ValueError):
      read_torch(save(tmp_path, data))


class Raw:
  """Pickles as an array of any state."""

  def __init__(self, shape, dtype, raw):
    self.state = (1, shape, dtype, False, raw)

  def __reduce__(self):
    make, arguments, _ = np.zeros(1).__reduce__()
    return make, arguments, self.state


def test_impossible_arrays(tmp_path):
  for state in (
    ((2**60,), np.dtype("f4"), b"1234"),
    ((-1,), np.dtype("f4"), b"1234"),
    ((2,), np.dtype("f4"), b"1234"),
    ((1,) * 100, np.dtype("f4"), b"1234"),
    ((1,) * 10**4, np.dtype("f4"), b"1234"),
    ((), np.dtype("f4"), b""),
    ((1,), np.dtype("f4"), b"12345"),
    ((1,), np.dtype("O"), [print]),
    ((1,), np.dtype([("a", "f4")]), b"1234"),
    ((1,), "f4", b"1234"),
    ((1,), np.dtype("f4"), "\u1234"),
  ):
    network = weight_files.Network("G", {}, {"x": Raw(*state)})
    with pytest.raises(ValueError):
      msg_stylegan_tf.read(save(tmp_path, pickle.dumps((network,) * 3, 4)))


DAMAGED = [
  b"",
  b"\x80",
  b".",
  # Lengths beyond the data, up to the largest that can be asked for.
  *(b"\x80\x04" + code + b"\xff" * 3 + b"\x7f" for code in (b"B", b"X", b"T")),
  *(b"\x80\x04" + code + b"\xff" * 7 + b"\x7f" for code in (b"\x8e", b"\x8d")),
  *(b"\x80\x04" + code + b"\xff" * 8 for code in (b"\x8e", b"\x8d", b"\x95")),
  b"\x80\x04\x8b\xff\xff\xff\x7f",  # LONG4
  b"\x80\x02I" + b"9" * 5000 + b"\n.",
  b"\x80\x02S" + b"x" * 10**6 + b"\n.",  # a text without quotes
  b"\x80\x02c\\o\nsystem\n.",  # a backslash warns
  b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",  # a memo of 2^32 values
  b"\x80\x02}(" + b")\x86" * 3 + b"Nu.",  # tuples as keys
  b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aNsb.",
  b"\x80\x02N(" + b"N" * 10,
  b"\x80\x02" + b"(" * 2_000_000,
  b"\x80\x02" + b"]" + b"2" * 10 + b".",
  zip_bytes(b"\x80\x02N.", compression=zipfile.ZIP_DEFLATED),
  zip_bytes(pickle.dumps({"x": 1}, 2)),
  b"PK\x03\x04" + b"\0" * 100,
]


def test_damaged_files_end_in_a_sentence_before_memory_is_taken(tmp_path):
  with fuzzing.limits(mebibytes=200):
    for data in DAMAGED:
      for read in (read_torch, msg_stylegan_tf.read):
        for content in (data, OLD_START + data, zip_bytes(data)):
          path = save(tmp_path, content)
          with pytest.raises(ValueError, match=str(path)) as error:
            read(path)
          message = str(error.value)
          assert len(message) < 500 and "\n" not in message


def test_repeated_arguments_are_not_copied():
  """Copies would take memory with the square of a file's size."""
  twice = b"\x80\x02ca\nb\nq\x00(NNtq\x01Rh\x00h\x01R\x86."
  first, second = restricted.load(io.BytesIO(twice), {"a.b"})
  assert first.arguments == (None, None)
  assert first.arguments is second.arguments


def test_the_official_code_s_defaults():
  """Their parameters are counted in reference/peers.md, section 1.2."""
  config = load_config("default", "msg_stylegan_official")
  config.update(msg_stylegan_tf.architecture([Network(name) for name in "GDG"]))
  assert count(networks.make_generator(config)) == 26_219_627
  assert count(networks.make_discriminator(config)) == 24_238_625
