"""Networks in one .safetensors file, to share.

Tensors are float32 and named by network and path, such as
generator/block_4x4/conv/kernel; the header's metadata are `format`, `version`,
`step`, `kimg`, the run's configuration in JSON, `config`, and those of its
`model_card`. Only arrays, the fields of `checks.network_fields`, `bands` and
the name of the demo's data are read from a file: nothing in it is executed, no
path in it is opened.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from msggan_jax.algorithm import growth
from msggan_jax.checkpoints.tensors import from_own, quote, to_own
from msggan_jax.config import checks
from msggan_jax.config.fields import FIELDS
from msggan_jax.data import pictures
from msggan_jax.models import networks
from msggan_jax.runtime import errors, files, jsonl

FORMAT = "msggan_jax"
VERSION = "1"
GENERATOR = "generator"  # its moving average
DISCRIMINATOR = "discriminator"
# In the header's metadata, in JSON: a list, and `data.values.Range`.
CLASS_NAMES, RANGE = "class_names", "range"

_MAKERS = {
  GENERATOR: networks.make_generator,
  DISCRIMINATOR: networks.make_discriminator,
}
_DEMO = ("cats", "earth")  # data sets that everybody can prepare


def make_network(name: str, config: ConfigDict) -> networks.Network:
  """Check a configuration and return its `GENERATOR` or `DISCRIMINATOR`."""
  checks.network_fields(config.to_dict())
  return _MAKERS[name](config)


def at_step(
  name: str, config: ConfigDict, step: int, network: networks.Network, *trees
) -> tuple:
  """Return a run's configuration, network and trees after a step.

  They are those of the stage that a growing network then has.
  """
  stage = growth.stage_after(config, step)
  if stage is config:
    return config, network, *trees
  parts = growth.part_of(trees, stage.resolution)
  return stage, make_network(name, stage), *parts


def write(
  path: Path,
  config: ConfigDict,
  step: int,
  trees: Mapping[str, tuple[networks.Tree, networks.Tree]],
  card: Mapping[str, str],
) -> None:
  """Write a new file; raises as `write_new`.

  Fields of the configuration with paths are dropped. `trees` has parameters and
  state by `GENERATOR` and `DISCRIMINATOR`, `card` more metadata of the header.
  """
  tensors = to_own(
    *({name: tree} for name, both in trees.items() for tree in both)
  )
  metadata = {
    "format": FORMAT,
    "version": VERSION,
    "step": str(step),
    "kimg": f"{growth.kimg_at(config, step):g}",
    "config": json.dumps(_public(config), sort_keys=True),
    **card,
  }
  write_new(path, safetensors.numpy.save(tensors, metadata))


def write_new(path: Path, content: bytes) -> None:
  """Write a new file, completely or not at all; ValueError if it exists."""
  check_free(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write(path, content)


def check_free(path: Path) -> None:
  """Raise ValueError if the path exists."""
  if path.exists() or path.is_symlink():
    raise ValueError(f"{path} exists; choose another --output")


def read(
  path: str | Path, name: str
) -> tuple[ConfigDict, networks.Network, networks.Tree, networks.Tree]:
  """Read the `GENERATOR` or the `DISCRIMINATOR`.

  The configuration has the network's fields, and the data set if it is the
  demo's.

  Raises:
    ValueError: If the file is damaged or foreign, in one sentence, or with a
      list of the tensors that do not fit its configuration.
  """
  with _opened(path) as file:
    config = _read_config(file.metadata() or {})
    tensors = _read_tensors(file, name)
  network = make_network(name, config)
  trees = ({name: tree} for tree in network.shapes)
  params, state = from_own(tensors, f"{name} in {path}", *trees)
  return config, network, params[name], state[name]


def read_header(
  path: str | Path,
) -> tuple[ConfigDict, dict[str, str], set[str]]:
  """Return the network fields, all metadata and the names of the networks."""
  with _opened(path) as file:
    metadata = file.metadata() or {}
    names = {key.partition("/")[0] for key in file.keys()}
    return _read_config(metadata), metadata, names


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
  """Open a file; name it in errors of the block."""
  try:
    with safetensors.safe_open(path, framework="np") as file:
      yield file
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{path} is not a weight file: it is not a readable .safetensors file "
      f"({errors.first_line(error)}); give a run's folder or a file written by "
      "msggan_jax.export"
    ) from error
  except ValueError as error:
    raise ValueError(
      f"{path} is not a weight file of msggan_jax: {errors.first_line(error)}"
    ) from error


def _read_config(metadata: Mapping[str, str]) -> ConfigDict:
  if metadata.get("format") != FORMAT or "config" not in metadata:
    raise ValueError("its header has no configuration of the networks")
  if metadata.get("version") != VERSION:
    version = quote(metadata.get("version", ""))
    raise ValueError(f"its version is {version}; this code reads {VERSION}")
  fields = jsonl.parse(metadata["config"])
  if fields is None:
    raise ValueError("the configuration in its header is damaged")
  config = checks.network_fields(fields)
  if bands := fields.get("bands"):
    pictures.parse_bands(str(bands), config.channels)
    config.bands = str(bands)
  # The data set, and whether it was mirrored, if it is all of the demo's.
  dataset = fields.get("dataset")
  dataset = dataset if isinstance(dataset, dict) else {}
  name, holdout = dataset.get("name"), dataset.get("holdout")
  if name in _DEMO and dataset.get("split") == "train" and not holdout:
    config.mirror = fields.get("mirror") is True
    config.dataset = ConfigDict({"name": name, "split": "train"})
    config.dataset.update(path="", data_dir="", crop="center")
  return config


def _read_tensors(file: Any, name: str) -> dict[str, np.ndarray]:
  """Read a network's tensors; refuse tensors of unknown networks."""
  tensors = {}
  for key in file.keys():
    network = key.partition("/")[0]
    if network not in _MAKERS:
      raise ValueError(f"the tensor {quote(key)} belongs to no known network")
    if network != name:
      continue
    kind = file.get_slice(key).get_dtype()
    if kind != "F32":
      raise ValueError(f"the tensor {quote(key)} holds {kind}, not F32")
    tensors[key] = file.get_tensor(key)
  if not tensors:
    raise ValueError(f"it holds no {name}")
  return tensors


def _public(config: ConfigDict) -> dict[str, Any]:
  fields = config.to_dict()
  for name, field in FIELDS.items():
    if field.private:
      group, _, last = name.rpartition(".")
      (fields.get(group, {}) if group else fields).pop(last, None)
  return fields
