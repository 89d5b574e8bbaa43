"""Networks of a run's folder or of a file, and from the one to the other."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax import (
  checkpoint,
  configuration,
  networks,
  sharding,
  weight_file,
)

# Of a checkpoint: a network's parameters and its state.
_FIELDS = {
  weight_file.GENERATOR: ("ema_params", "ema_state"),
  weight_file.DISCRIMINATOR: ("d_params", "d_state"),
}


def load(
  source: str | Path, step: int | str | None, name: str
) -> tuple[ConfigDict, networks.Network, networks.Tree, networks.Tree]:
  """Load a network from a run's folder or from a file.

  Args:
    source: The folder or the file.
    step: Which checkpoint; "best": the one that is marked; None: the newest.
    name: `weight_file.GENERATOR`, the moving average, or `DISCRIMINATOR`.

  Returns:
    Its configuration, the network, its parameters and its state.

  Raises:
    FileNotFoundError: If there is no run or no such checkpoint.
    ValueError: In one sentence, if what is there is damaged or impossible.
  """
  device = jax.local_devices()[0]
  if Path(source).is_file():
    if step is not None:
      raise ValueError(
        f"{source} is one file and not a run with checkpoints to choose from"
      )
    config, network, *trees = weight_file.read(source, name)
    return config, network, *jax.device_put(trees, device)
  config = configuration.load(source)
  network = weight_file.make_network(name, config)
  loaded = _restore(source, step, _trees({name: network}))
  return config, network, *(loaded[field] for field in _FIELDS[name])


def export(
  workdir: str | Path,
  output: Path,
  step: int | str | None = None,
  *,
  with_discriminator: bool = False,
) -> int:
  """Write a run's EMA generator to one file, which can be given to others.

  Args:
    workdir: The run's folder.
    output: Where there is no file yet.
    step: As in `load`.
    with_discriminator: Whether the discriminator goes with it.

  Returns:
    The step of the checkpoint.

  Raises:
    FileNotFoundError: If there is no run or no such checkpoint.
    ValueError: If there is something at `output`.
  """
  weight_file.check_free(output)
  config = configuration.load(workdir)
  names = [weight_file.GENERATOR]
  if with_discriminator:
    names.append(weight_file.DISCRIMINATOR)
  made = {name: weight_file.make_network(name, config) for name in names}
  wanted = {"step": jax.ShapeDtypeStruct((), jnp.int32), **_trees(made)}
  loaded = _restore(workdir, step, wanted)
  step = int(loaded.pop("step"))
  trees = {
    name: tuple(loaded[field] for field in _FIELDS[name]) for name in names
  }
  weight_file.write(output, config, step, trees)
  return step


def _trees(made: dict[str, networks.Network]) -> dict[str, Any]:
  """Return the shapes of networks' trees, by their fields of a checkpoint."""
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
