"""Damaged weight files: refused in a sentence, in no time, without a trace."""

import collections
import functools
import io
import pickle
import pickletools
import random
import zipfile

import numpy as np
import pytest
from ml_collections import ConfigDict

from msggan_jax.checkpoints import safetensors_file
from msggan_jax.models import networks
from msggan_jax.sharing.foreign import bmsg_gan, conversion, msg_stylegan_tf
from msggan_jax.sharing.foreign.torch_file import read_torch
from tests import fuzzing, weight_files
from tests.algorithm.runs import random_arrays, small_config
from tests.conftest import load_config
from tests.sharing.test_convert import (
  tensors_of,
  tf_networks,
  without_right_vectors,
)
from tests.weight_files import Tensor, torch_bytes, zip_bytes

TOKENS = [each.code.encode("latin1") for each in pickletools.opcodes]
TOKENS += [b"cos\nsystem\n", b"(S'true'\ntR."]
TOKENS += [b"9", b"-", b"null", b"[", b"{", b'"', b"4096"]  # of JSON
SECS = 20  # limit for one input; readers take milliseconds


pytestmark = pytest.mark.usefixtures("stand_ins")


def torch_seeds(_):
  """Return files of both formats with every kind of tensor."""
  x = np.arange(6, dtype="f4")
  tensors = {"a": x, "view": Tensor(x, (2,), (2,), offset=1)}
  nested = {"epoch": 3, "state_dict": {"x": Tensor(x)}}
  kinds = tensors | {"half": x.astype("f2"), "long": np.arange(3)}
  return [
    torch_bytes(tensors, is_zip=False),
    torch_bytes(nested, is_zip=False),
    torch_bytes(nested, is_zip=True),
    torch_bytes(kinds, is_zip=True),
  ]


def tf_seeds(_):
  network = weight_files.Network(
    "G", {"size": np.int64(3)}, {"x": np.ones((2, 3), ">f4")}
  )
  return [pickle.dumps((network,) * 3, protocol) for protocol in (2, 3, 4)]


def source_seeds(source, _=None):
  """Return files of tiny networks, of G and D for PyTorch."""
  if source == "msg-stylegan-tf":
    return [pickle.dumps(tf_networks()[3], protocol) for protocol in (2, 4)]
  config = load_config("default", conversion.PRESETS[source])
  spectral_norm = source == "msg-gan-v1"
  config.update(resolution=8, latent_size=4, base_channels=128, max_channels=4)
  seeds = []
  for make, table in (
    (networks.make_generator, bmsg_gan.generator_table),
    (networks.make_discriminator, bmsg_gan.discriminator_table),
  ):
    tensors = tensors_of(table((4, 8), spectral_norm), config, make, seed=0)
    seeds += [torch_bytes(tensors, is_zip) for is_zip in (True, False)]
    seeds.append(torch_bytes(without_right_vectors(tensors), is_zip=True))
  return seeds


def damage(rng, seeds):
  """Return a damaged file; of zips mostly the pickle within, rightly zipped."""
  seed = rng.choice(seeds)
  if not seed.startswith(b"PK") or rng.random() < 0.3:
    return fuzzing.mutate(rng, [seed, *seeds], TOKENS)
  with zipfile.ZipFile(io.BytesIO(seed)) as archive:
    pickled = archive.read("archive/data.pkl")
    count = sum("/data/" in name for name in archive.namelist())
    stored = [archive.read(f"archive/data/{i}") for i in range(count)]
  return zip_bytes(fuzzing.mutate(rng, [pickled], TOKENS), stored)


def convert(source, path):
  """Do all of a conversion but writing its result."""
  if source == "msg-stylegan-tf":
    return fit(source, conversion.read(source, str(path), None))
  problems = []
  good = str(path.with_name("good"))
  for generator, discriminator in ((str(path), None), (good, str(path))):
    try:
      fit(source, conversion.read(source, generator, discriminator))
    except ValueError as error:
      problems.append(error)
  if len(problems) == 2:
    raise problems[0]


def fit(source, weights):
  small = {k: v for k, v in weights.fields.items() if k != "stddev_grouping"}
  if max(small.values()) > 512:  # as wide as networks are; it takes seconds
    return None
  preset = conversion.PRESETS[source]
  return conversion._fit(
    weights, *make_networks(preset, tuple(sorted(weights.fields.items())))
  )


@functools.lru_cache(maxsize=1000)
def make_networks(preset, fields):
  config = ConfigDict(load_config("default", preset))
  config.update(dict(fields))
  return networks.make_generator(config), networks.make_discriminator(config)


def safetensors_seeds(folder):
  """Return the weights of a tiny network in our own format."""
  config = small_config("msg_stylegan")
  trees = random_arrays(networks.make_generator(config))
  path = folder / "seed"
  named = {safetensors_file.GENERATOR: trees}
  safetensors_file.write(path, config, 3, named, {})
  content = path.read_bytes()
  path.unlink()
  return [content]


# Name to reader, seeds, share of the inputs.
TARGETS = {
  "torch": (read_torch, torch_seeds, 4),
  "tf": (msg_stylegan_tf.read, tf_seeds, 3),
  "safetensors": (
    lambda path: safetensors_file.read(path, safetensors_file.GENERATOR),
    safetensors_seeds,
    1,
  ),
} | {
  source: (
    functools.partial(convert, source),
    functools.partial(source_seeds, source),
    1,
  )
  for source in conversion.PRESETS
}


@pytest.mark.parametrize(
  ("inputs", "seed"),
  [(15, 0), pytest.param(2500, 1, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("target", TARGETS)
def test_damaged_weight_files(tmp_path, monkeypatch, target, inputs, seed):
  read, make_seeds, share = TARGETS[target]
  seeds = make_seeds(tmp_path)
  path = tmp_path / "weights"
  (tmp_path / "good").write_bytes(seeds[0])
  monkeypatch.chdir(tmp_path)
  for data in seeds:  # imports and caches are filled before the limits apply
    path.write_bytes(data)
    read(path)
  rng = random.Random(seed)
  outcomes = collections.Counter()
  with (
    fuzzing.limits(mebibytes=300) as begin,
    fuzzing.writing_only_to(tmp_path),
  ):
    for number in range(inputs * share):
      path.write_bytes(data := damage(rng, seeds))
      begin(SECS)
      try:
        read(path)
        outcomes["read"] += 1
      except ValueError as error:
        assert str(error)
        outcomes["refused"] += 1
      except BaseException:
        print(f"input {number} of seed {seed}: {data!r}")
        raise
  assert {file.name for file in tmp_path.iterdir()} == {"good", "weights"}
  assert outcomes["refused"] > inputs // 3


# What was found by reading the code: too rare for chance.


@pytest.mark.parametrize("source", ["bmsg-gan", "msg-gan-v1"])
def test_numbers_that_are_not_finite(tmp_path, source):
  path = tmp_path / "weights"
  path.write_bytes(source_seeds(source)[0])
  tensors = without_right_vectors(read_torch(path))
  name = next(name for name in tensors if "layers.1.conv_1.weight" in name)
  tensors[name] = tensors[name].astype("f8")
  for number in (np.nan, np.inf, 1e300):
    tensors[name][0, 0, 0, 0] = number
    path.write_bytes(torch_bytes(tensors, is_zip=True))
    with pytest.raises(ValueError, match=rf"{name} has NaN or Inf"):
      fit(source, conversion.read(source, str(path), None))


def test_vectors_that_are_numbers():
  tensors = {"x.weight_orig": np.float32(1), "x.weight_u": np.float32(1)}
  assert bmsg_gan.with_right_vectors(tensors, is_generator=True) == tensors
