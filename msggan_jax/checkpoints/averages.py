"""Files of G's power-function averages, and moving averages made from them.

`averages/<step>/` in a workdir, beside the checkpoints: the averages in one
safetensors file, float32, and a manifest of checksums, written last. Step 0 has
the initial parameters. Kept are step 0, the newest, and the first of every 5 %
of growth in steps.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from ml_collections import ConfigDict

from msggan_jax.algorithm import averaging, growth
from msggan_jax.checkpoints import checkpoint, manifest, safetensors_file
from msggan_jax.checkpoints.tensors import from_own, to_own
from msggan_jax.config import saved
from msggan_jax.models import networks
from msggan_jax.runtime import files

_FILE = "averages.safetensors"
_STATE = "state"
_GROWTH = 1.05
_POOR = 0.2  # error of the weights over steps that is worth a warning


def save(
  workdir: Path, step: int, averages: tuple[Any, ...], state: Any
) -> None:
  """Write the averages of a step, unless they exist, and delete surplus ones.

  `averages` has a tree of parameters for each of `averaging.WIDTHS`, and
  `state` is G's.
  """
  folder = _folder(workdir, step)
  if manifest.find_damage(folder) is None:
    return
  files.remove(folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  if step == 0:  # all are the initial parameters
    averages = averages[:1]
  trees = {str(i): tree for i, tree in enumerate(averages)}
  tensors = to_own(trees, {_STATE: state})
  # The manifest syncs.
  with files.replacing(folder, durable=False) as temporary:
    temporary.mkdir()
    (temporary / _FILE).write_bytes(safetensors.numpy.save(tensors))
    manifest.write(temporary)
  for surplus in set(_steps(workdir)) - _kept(_steps(workdir)):
    shutil.rmtree(_folder(workdir, surplus))


def delete_from(workdir: Path, step: int) -> None:
  """Delete the averages of a step, from which a run goes on, and of later ones.

  At step 0 they may be left from a start with other fields, which failed.
  """
  for later in _steps(workdir):
    if later >= step:
      shutil.rmtree(_folder(workdir, later))
  for left in _folder(workdir, step).parent.glob(".*.tmp"):  # by a kill
    files.remove(left)


def reconstruct(
  workdir: str | Path, step: int | str | None, ema_kimg: float
) -> tuple[ConfigDict, networks.Network, networks.Tree, networks.Tree]:
  """Return the generator with another moving average, see `load_generator`."""
  if not 0 < ema_kimg < math.inf:
    raise ValueError(f"ema_kimg is {ema_kimg}; choose a number above 0")
  if Path(workdir).is_file():
    raise ValueError(
      f"{workdir} is one file; ema_kimg needs a run's folder with its averages"
    )
  workdir = Path(workdir)
  config = saved.load_config(workdir)
  network = safetensors_file.make_network(safetensors_file.GENERATOR, config)
  step = _find(workdir, step)
  steps = []
  for each in _steps(workdir):
    if problem := manifest.find_damage(_folder(workdir, each)):
      logging.warning("skipping %s: %s", _folder(workdir, each), problem)
    elif each <= step:
      steps.append(each)
  if step not in steps or 0 not in steps:
    raise ValueError(
      f"the averages of step {step} or of step 0 in {workdir} are damaged"
    )
  ends = [0, *(phase.end_step for phase in growth.phases(config))]
  half_lives = [growth.kimg_at(config, end) / ema_kimg for end in ends]
  of_averages, of_initial, error = averaging.power_coefficients(
    steps[1:], step, lambda s: np.interp(s, ends, half_lives)
  )
  if error > _POOR:
    logging.warning(
      f"ema_kimg {ema_kimg:g} is short for the averages of {workdir}: the "
      f"weights over steps have an error of {error:.0%}"
    )
  shapes = network.shapes
  total = jax.tree.map(lambda x: np.zeros(x.shape, np.float64), shapes[0])
  for kept, weights in zip(steps, [[of_initial], *of_averages], strict=True):
    trees, state = _read(_folder(workdir, kept), shapes, len(weights))
    for weight, tree in zip(weights, trees, strict=True):
      total = jax.tree.map(lambda a, b, w=weight: a + w * b, total, tree)
  params = jax.tree.map(np.float32, total)
  device = jax.local_devices()[0]
  trees = jax.device_put((params, state), device)
  return safetensors_file.at_step(
    safetensors_file.GENERATOR, config, step, network, *trees
  )


def _find(workdir: Path, step: int | str | None) -> int:
  steps = _steps(workdir)[1:]
  if not steps:
    raise FileNotFoundError(
      f"{workdir} keeps no averages to make another ema_kimg from; train with "
      "config.ema_averages"
    )
  if step == checkpoint.BEST:
    with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
      step = checkpoints.find(step)
  if step is None:
    return steps[-1]
  if step not in steps:
    raise FileNotFoundError(
      f"{workdir} has no averages of step {step}; there are {steps}"
    )
  return int(step)


def _read(
  folder: Path, shapes: tuple[networks.Tree, networks.Tree], num_averages: int
) -> tuple[list[networks.Tree], networks.Tree]:
  try:
    tensors = safetensors.numpy.load_file(folder / _FILE)
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(f"{folder / _FILE} cannot be read: {error}") from error
  params, state = shapes
  trees = {str(i): params for i in range(num_averages)}, {_STATE: state}
  averages, state = from_own(tensors, str(folder), *trees)
  return list(averages.values()), state[_STATE]


def _steps(workdir: Path) -> list[int]:
  """Return the steps with complete averages."""
  folders = filter(manifest.exists, (workdir / "averages").glob("*"))
  return sorted(int(each.name) for each in folders if each.name.isdecimal())


def _kept(steps: list[int]) -> set[int]:
  firsts = {}
  for step in steps:
    part = math.floor(math.log(step, _GROWTH)) if step else -1
    firsts.setdefault(part, step)
  return {*firsts.values(), steps[-1]}


def _folder(workdir: Path, step: int) -> Path:
  return workdir / "averages" / str(step)
