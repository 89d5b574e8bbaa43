"""Weights in one file: written, read again, damaged, foreign."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from msggan_jax import load_discriminator, load_generator
from msggan_jax.checkpoints import safetensors_file
from msggan_jax.checkpoints.tensors import flatten
from msggan_jax.config import checks, saved
from msggan_jax.config.fields import FIELDS
from msggan_jax.sharing import portable
from tests.algorithm.runs import small_config, write_run
from tests.commands import run_command

STEP = 3


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A run's folder, at a step."""
  config = small_config("msg_stylegan", w_size=5, latent_size=6, batch_size=32)
  config.dataset.path = "/home/author/photos"
  config.inception_path = "/home/author/inception.pth"
  config.augment_holdout = "/home/author/others"
  config.extractor = "author:features"
  return write_run(config, tmp_path_factory.mktemp("run"), STEP)


@pytest.fixture(scope="module")
def path(workdir, tmp_path_factory):
  """Both networks in a file."""
  path = tmp_path_factory.mktemp("files") / "both.safetensors"
  assert portable.export(workdir, path, with_discriminator=True) == STEP
  return path


def header(path):
  with safe_open(path, framework="np") as file:
    return file.metadata()


def test_any_reader_finds_the_moving_average(workdir, path):
  found = load_file(path)
  of_run, of_file = {}, {}
  for name, load in (
    ("generator", load_generator),
    ("discriminator", load_discriminator),
  ):
    for source, tensors in ((workdir, of_run), (path, of_file)):
      network = load(source)
      for key, array in flatten(network.params, network.state).items():
        tensors[f"{name}/{key}"] = np.asarray(array)
  assert found.keys() == of_run.keys() == of_file.keys()
  for name, array in found.items():
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, of_run[name])
    np.testing.assert_array_equal(array, of_file[name])
  metadata = header(path)
  assert (metadata["format"], metadata["version"]) == ("msggan_jax", "1")
  assert (metadata["step"], metadata["kimg"]) == ("3", "0.096")
  config = json.loads(metadata["config"])
  assert config["loss"] == "logistic"
  assert not config["dataset"].keys() & {"path", "data_dir"}
  assert "author" not in str(metadata)
  with pytest.raises(ValueError, match="one file and not a run"):
    load_generator(path, STEP)


def test_the_command(workdir, tmp_path):
  output = tmp_path / "new" / "run.safetensors"
  said = run_command("export", f"--workdir={workdir}", f"--output={output}")
  assert said.startswith(f"{output}: step 3, ")
  assert os.listdir(output.parent) == [output.name]
  content = output.read_bytes()
  with pytest.raises(ValueError, match=f"{output} exists; choose another --ou"):
    portable.export(workdir, output)
  assert output.read_bytes() == content
  with pytest.raises(ValueError, match="it holds no discriminator"):
    load_discriminator(output)


def test_a_failed_export_leaves_nothing(workdir, tmp_path, monkeypatch):
  for step, name in ((7, "7"), ("3", "'3'")):
    sentence = f"no checkpoint {name}; there are .3"
    with pytest.raises(FileNotFoundError, match=sentence):
      portable.export(workdir, tmp_path / "x.safetensors", step)

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(safetensors_file.Path, "replace", fail)
  with pytest.raises(OSError, match="No space left"):
    portable.export(workdir, tmp_path / "x.safetensors")
  assert not os.listdir(tmp_path)


def pack(header, data=b""):
  """Return a file's bytes with any header."""
  if not isinstance(header, bytes):
    header = json.dumps(header).encode()
  return struct.pack("<Q", len(header)) + header + data


def test_damaged_files(path, tmp_path):
  good = path.read_bytes()
  size = struct.unpack("<Q", good[:8])[0]
  text = good[8 : 8 + size]
  bad = tmp_path / "bad.safetensors"
  flipped = [
    good[:i] + bytes([good[i] ^ 128]) + good[i + 1 :]
    for i in (0, 7, 8, 8 + size // 2, 7 + size)
  ]
  for data in (
    b"",
    good[:7],
    good[: 8 + size // 2],
    good[:-1],
    good + b"\0",
    struct.pack("<Q", 2**63) + good[8:],
    pack({}),
    pack(b"[" * 100_000),
    pack({"__metadata__": {"format": "msggan_jax", "version": "1"}}),
    pack(text.replace(b'"shape":[', b'"shape":[2,', 1), good[8 + size :]),
    *flipped,
  ):
    bad.write_bytes(data)
    with pytest.raises(ValueError, match="bad.safetensors") as error:
      load_generator(bad)
    assert len(str(error.value)) < 1000


def rewritten(path, to, change=lambda tensors: None, **metadata):
  """Write a changed file."""
  tensors = load_file(path)
  change(tensors)
  save_file(tensors, to, header(path) | metadata)
  return to


def test_tensors_that_do_not_fit(path, tmp_path):
  def change(tensors):
    del tensors["generator/w_avg"]
    name = "generator/mapping/dense_0/kernel"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    tensors["generator/more"] = np.zeros(2, np.float32)

  bad = rewritten(path, tmp_path / "bad.safetensors", change)
  match = f"the generator in {bad} does not match:"
  with pytest.raises(ValueError, match=match) as e:
    load_generator(bad)
  assert str(e.value).splitlines()[1:] == [
    "  generator/mapping/dense_0/kernel is (4, 6), expected (6, 4)",
    "  missing: generator/w_avg (5,)",
    "  unused: generator/more (2,)",
  ]
  load_discriminator(bad)  # is whole

  def halve(tensors):
    tensors["generator/w_avg"] = tensors["generator/w_avg"].astype(np.float16)

  def add(tensors):
    tensors["../optimizer"] = np.zeros(1, np.float32)

  for change, sentence in (
    (halve, "holds F16, not F32"),
    (add, "'../optimizer' belongs to no known network"),
  ):
    with pytest.raises(ValueError, match=sentence):
      load_generator(rewritten(path, bad, change))


def test_foreign_headers(path, tmp_path):
  bad = tmp_path / "bad.safetensors"
  for metadata, sentence in (
    ({"format": "pt"}, "header has no configuration of the networks"),
    ({"version": "2"}, "its version is '2'; this code reads 1"),
    ({"config": "{"}, "the configuration in its header is damaged"),
    ({"config": "[" * 10**5}, "the configuration in its header is damaged"),
    ({"config": "{}"}, "the configuration lacks resolution, channels"),
  ):
    with pytest.raises(ValueError, match=sentence):
      load_generator(rewritten(path, bad, **metadata))


def test_impossible_configurations(workdir):
  fields = saved.load_config(workdir).to_dict()
  for name, value in (
    ("resolution", 2**40),
    ("resolution", "8"),
    ("mapping_layers", 10**9),
    ("max_channels", -1),
    ("num_classes", True),
    ("model", "os:system"),
    ("combine", ["simple"]),
    ("linear_gain", float("nan")),
    ("linear_gain", 10**400),
    ("equalized", False),
    ("connected_scales", [[8]]),
    ("precision", None),
  ):
    with pytest.raises(ValueError, match=f"^config.{name} is|^resolution is 2"):
      checks.network_fields(fields | {name: value})


def test_no_other_field_is_believed(path, tmp_path):
  """Only paths that the user names are opened, run or written."""
  made = str(tmp_path / "made")
  config = json.loads(header(path)["config"])
  config |= {"dataset": {"path": "/etc", "data_dir": made}, "workdir": made}
  config["extractor"] = "os:abort"
  odd = tmp_path / "odd.safetensors"
  generator = load_generator(rewritten(path, odd, config=json.dumps(config)))
  assert set(generator.config) == {
    name for name, field in FIELDS.items() if field.shapes_networks
  }
  assert os.listdir(tmp_path) == [odd.name]


def test_what_is_no_run_and_no_file(tmp_path):
  (tmp_path / "notes.txt").write_text("not weights\n")
  for name, error, sentence in (
    ("notes.txt", ValueError, "notes.txt is not a weight file: it is not"),
    ("nowhere", FileNotFoundError, "nowhere.* it does not exist"),
    ("", FileNotFoundError, "it has no config.json"),
  ):
    with pytest.raises(error, match=sentence):
      load_generator(tmp_path / name)
