"""Replay steps of a run: a run is a function of its first state and its data.

The bytes of a checkpoint follow from those of an earlier one, given the same
configuration, images, versions and devices.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from ml_collections import ConfigDict

import msggan_jax
from msggan_jax import data
from msggan_jax.algorithm import growth
from msggan_jax.algorithm.program import make_program
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.checkpoints.tensors import digest, flatten
from msggan_jax.config import saved
from msggan_jax.data import run_data
from msggan_jax.runtime import errors, processes, sharding
from msggan_jax.training import batches
from msggan_jax.training.events import Schedule

_SHOWN = 12  # hexadecimal digits of a hash


def provenance(
  config: ConfigDict,
  prepared: data.PreparedSet,
  holdout: data.PreparedSet | None = None,
) -> dict[str, str | int]:
  """Return everything that the bytes of a run's states depend on."""
  root = Path(msggan_jax.__file__).parent
  held_out = {}
  if holdout is not None:
    held_out[batches.HELD_OUT_HASH] = holdout.metadata.content_hash
  code = hashlib.sha256()
  for part in ("algorithm", "data", "kernels", "models", "runtime"):
    for path in sorted((root / part).rglob("*.py")):
      code.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
  return {
    **saved.decisive(config),
    batches.CONTENT_HASH: prepared.metadata.content_hash,
    **held_out,
    "msggan_jax's code": code.hexdigest(),
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "the device": jax.devices()[0].device_kind,
    "the number of devices": jax.device_count(),
    "the number of processes": jax.process_count(),
  }


class Mismatch(errors.Ending):
  """The replay has made another state than the run."""

  code = errors.EXIT_FAILURE


def verify(config: ConfigDict, workdir: Path, steps: str) -> None:
  """Replay the steps between two checkpoints and compare every tensor.

  All checkpoints in between are compared, too. Nothing in the workdir changes.
  `steps` are two with a comma, 0 before the first step; "": the newest two.

  Raises:
    FileNotFoundError: If a checkpoint does not exist.
    ValueError: If one is damaged, or the command does not fit the run.
    Mismatch: If a state differs, with the first tensor that does.
  """
  saved.load_config(workdir)  # exists
  program = make_program(config, sharding.make_mesh())
  known = batches.trained_on(workdir) or run_data.RunData()
  path = data.prepare(config, content_hash=known.content_hash)
  prepared = data.open_prepared(path)
  holdout = batches.open_holdout(config, prepared)
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    chosen = _choose(checkpoints, steps)
    Schedule(config).check(chosen[-1], workdir)
    recorded = checkpoints.provenance(chosen[-1])
    processes.say(
      *_differences(recorded, provenance(config, prepared, holdout)),
      *(
        f"{path} is not the data set of the run: {change}"
        for change in known.changes(prepared)
      ),
    )
    program = dataclasses.replace(program, dtype=prepared.metadata.dtype)
    compiled = functools.cache(lambda r: program.at(r).compile()[0])
    restore = functools.partial(checkpoints.restore, program.abstract_state)
    state = program.create_state()
    if chosen[0] in checkpoints.steps:  # at 0: a run of --init_from
      state = restore(chosen[0])
    for last in chosen[1:]:
      first = int(state.step)
      state = _with_numbers_of(last, state, checkpoints)
      for phase in growth.phases(config):
        steps = range(max(first, phase.first_step), min(last, phase.end_step))
        if not steps:
          continue
        loader = batches.make_loader(config, state, prepared, holdout)
        with contextlib.closing(loader):
          for _ in steps:
            batch = sharding.put_batch(program.mesh, next(loader))
            state, _ = compiled(phase.resolution)(state, batch)
      expected = restore(last)
      one = last == first + 1
      what = f"step {last}" if one else f"steps {first + 1} to {last}"
      _compare(what, expected, state)


def _choose(checkpoints: Checkpoints, steps: str) -> list[int]:
  """Return the steps of the checkpoints to compare, as all processes see it."""
  have = checkpoints.steps
  if steps:
    found = re.fullmatch(r"(\d+),(\d+)", steps, re.ASCII)
    first, last = map(int, found.groups()) if found else (0, 0)
  else:
    last = checkpoints.find(None)
    first = max((step for step in have if step < last), default=0)
    steps = f"{first},{last}"
  if first >= last:
    raise ValueError(
      f"--verify={steps}: give two steps, an earlier and a later one, such as "
      "--verify=0,100"
    )
  first, last = map(processes.from_first, (first, last))
  for step in (first, last):
    if step:
      checkpoints.find(step)
  between = [step for step in have if first < step < last]
  return [first, *processes.from_first(between), last]


def _with_numbers_of(
  step: int, state: TrainState, checkpoints: Checkpoints
) -> TrainState:
  """Give a state the random numbers with which the run reached a step."""
  abstract = sharding.abstract(state.rollbacks, state.rollbacks.sharding)
  counter = checkpoints.restore({"rollbacks": abstract}, step)
  more = int(counter["rollbacks"]) - int(state.rollbacks)
  if not more:
    return state
  processes.say(
    f"the run has changed its random numbers {more} times after step "
    f"{int(state.step)}; this replays the last attempt, if it began there"
  )
  return state.replace(rollbacks=state.rollbacks + more)


def _differences(
  recorded: Mapping[str, Any] | None, ours: Mapping[str, Any]
) -> list[str]:
  if recorded is None:
    return ["the checkpoint does not record what it depends on; it is older"]
  return [
    f"{name} was {_short(recorded.get(name))}, is {_short(ours.get(name))}"
    for name in dict.fromkeys((*ours, *recorded))
    if recorded.get(name) != ours.get(name)
  ]


def _short(value: Any) -> str:
  text = str(value)
  is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
  return text[:_SHOWN] if is_hash else text


def _compare(what: str, expected: TrainState, state: TrainState) -> None:
  """Compare two states; raise Mismatch with the first different tensor."""
  theirs, ours = (
    {k: np.asarray(x) for k, x in flatten(sharding.local_copy(tree)).items()}
    for tree in (expected, state)
  )
  differing = [
    name for name in theirs if theirs[name].tobytes() != ours[name].tobytes()
  ]
  if not differing:
    hashed = digest(ours)[:_SHOWN]
    processes.say(f"{what}: all {len(ours)} tensors agree, SHA-256 {hashed}...")
    return
  name = differing[0]
  a, b = (tree[name].astype(np.float64) for tree in (theirs, ours))
  raise Mismatch(
    f"{what}: {len(differing)} of {len(ours)} tensors differ, first {name}, in "
    f"{np.count_nonzero(a != b)} of {a.size} numbers, by at most "
    f"{np.max(np.abs(a - b)):.3g}; SHA-256 of the checkpoint "
    f"{digest(theirs)[:_SHOWN]}..., of the replay {digest(ours)[:_SHOWN]}..."
  )
