"""The networks of a run's folder or of a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.checkpoints import checkpoint, released, safetensors_file
from msggan_jax.config.saved import load_config
from msggan_jax.models import networks
from msggan_jax.runtime import sharding

# A network -> the checkpoint's fields with its parameters and its state.
_FIELDS = {
  safetensors_file.GENERATOR: ("ema_params", "ema_state"),
  safetensors_file.DISCRIMINATOR: ("d_params", "d_state"),
}


def load_network(
  source: str | Path, step: int | str | None, name: str
) -> tuple[ConfigDict, networks.Network, networks.Tree, networks.Tree]:
  """Load a network from a run's folder or from a file.

  Args:
    source: The folder, the file, or the name of a released generator.
    step: A checkpoint's step; "best": the marked one; None: the newest.
    name: `safetensors_file.GENERATOR`, the moving average, or `DISCRIMINATOR`.

  Returns:
    Its configuration, the network, its parameters and its state.

  Raises:
    FileNotFoundError: If the run or the checkpoint does not exist.
    ValueError: In one sentence, if the source is damaged or impossible.
  """
  device = jax.local_devices()[0]
  source = released.find(source)
  if source.is_file():
    if step is not None:
      raise ValueError(
        f"{source} is one file and not a run with checkpoints to choose from"
      )
    config, network, *trees = safetensors_file.read(source, name)
    return config, network, *jax.device_put(trees, device)
  config = load_config(source)
  network = safetensors_file.make_network(name, config)
  loaded = _restore(source, step, _trees({name: network}))
  return config, network, *(loaded[field] for field in _FIELDS[name])


def load_networks(
  workdir: str | Path, step: int | str | None, names: Sequence[str]
) -> tuple[ConfigDict, int, dict[str, tuple[networks.Tree, networks.Tree]]]:
  """Load networks of one checkpoint.

  Args:
    workdir: The run's folder.
    step: As in `load_network`.
    names: As in `load_network`.

  Returns:
    The configuration, the checkpoint's step, and each network's parameters and
    state.

  Raises:
    FileNotFoundError: If the run or the checkpoint does not exist.
  """
  config = load_config(workdir)
  made = {name: safetensors_file.make_network(name, config) for name in names}
  wanted = {"step": jax.ShapeDtypeStruct((), jnp.int32), **_trees(made)}
  loaded = _restore(workdir, step, wanted)
  trees = {
    name: tuple(loaded[field] for field in _FIELDS[name]) for name in names
  }
  return config, int(loaded["step"]), trees


def _trees(made: dict[str, networks.Network]) -> dict[str, Any]:
  """Return the shapes of networks' trees, by the checkpoint's fields."""
  trees = {}
  for name, network in made.items():
    params, state = _FIELDS[name]
    trees[params] = network.abstract_params()
    trees[state] = network.abstract_state()
  return trees


def _restore(
  workdir: str | Path, step: int | str | None, shapes: dict[str, Any]
) -> dict[str, Any]:
  tree = sharding.abstract(
    shapes, jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  )
  with checkpoint.Checkpoints(Path(workdir) / "checkpoints") as checkpoints:
    return checkpoints.restore(tree, step)
