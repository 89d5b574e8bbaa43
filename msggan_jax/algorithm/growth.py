"""Growing networks: the phases of a run (ProGAN, section 2).

A stage is a resolution, from `grow_from` up. Above the first one it begins with
a fade, during which alpha, the weight of the new level, goes from 0 to 1. A run
that does not grow is one phase. Steps become images here and nowhere else, as
batches may change with the stage.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.models.pyramid import resolutions_up_to

_LEVEL = re.compile(r"_(\d+)x\1$")  # ends the names of a level's modules


class Phase(NamedTuple):
  """A part of a run with one resolution and one batch size."""

  resolution: int
  fades: bool  # else alpha is 1
  first_step: int  # from 0
  steps: int
  first_image: int  # images shown before it
  batch_size: int
  learning_rate: float

  @property
  def end_step(self) -> int:
    """Return the first step after it."""
    return self.first_step + self.steps


def phases(config: ConfigDict) -> tuple[Phase, ...]:
  """Return the phases in order; the last one ends the run.

  A phase ends at the step nearest to its end in images.
  """
  made, step, image, end = [], 0, 0, 0.0
  for resolution in stages(config):
    size, rate = _values(config, resolution)
    for fades in (True, False):
      is_last = resolution == config.resolution and not fades
      if not fades:
        end = config.total_kimg if is_last else end + config.grow_stable_kimg
      elif resolution > config.grow_from > 0:
        end += config.grow_fade_kimg
      steps = max(0, round((1000 * end - image) / size))
      if steps or is_last:
        made.append(Phase(resolution, fades, step, steps, image, size, rate))
      step, image = step + steps, image + steps * size
  return tuple(made)


def stages(config: ConfigDict) -> tuple[int, ...]:
  """Return the resolutions at which a run trains, low to high."""
  if not config.grow_from:
    return (config.resolution,)
  resolutions = resolutions_up_to(config.resolution)
  return tuple(r for r in resolutions if r >= config.grow_from)


def stage(config: ConfigDict, resolution: int) -> ConfigDict:
  """Return a stage's configuration, whose phases end with those of the stage.

  Its resolution, batch size and learning rate are the stage's.
  """
  if not config.grow_from:
    return config
  below = [r for r in stages(config) if r <= resolution]
  sizes, rates = zip(*(_values(config, r) for r in below), strict=True)
  made = ConfigDict(config).copy_and_resolve_references()
  made.batch_size, made.learning_rate = _values(config, resolution)
  # Below their first resolution, tables have the configuration's own values.
  for name, values in (
    ("grow_batch_sizes", sizes),
    ("grow_learning_rates", rates),
  ):
    pairs = zip(below, values, strict=True)
    made[name] = ",".join(f"{r}:{value!r}" for r, value in pairs)
  made.resolution = resolution
  return made


def phase_at(config: ConfigDict, step: int) -> Phase:
  """Return the phase of a step, from 0; after the last step the last phase."""
  return _at(phases(config), step)


def _at(of_run: Sequence[Phase], step: int) -> Phase:
  return next(p for p in of_run[::-1] if p.first_step <= max(step, 0))


def stage_after(config: ConfigDict, step: int) -> ConfigDict:
  """Return the configuration of the networks that a run has after steps."""
  if not config.grow_from:
    return config
  return stage(config, phase_at(config, step - 1).resolution)


def images_at(of_run: Sequence[Phase], step: int) -> int:
  """Return the number of real images shown in the first steps of phases."""
  phase = _at(of_run, step)
  return phase.first_image + (step - phase.first_step) * phase.batch_size


def kimg_at(config: ConfigDict, step: int) -> float:
  """Return the thousands of real images shown in the first steps."""
  return images_at(phases(config), step) / 1000


def total_steps(config: ConfigDict) -> int:
  """Return the number of steps of a run."""
  return phases(config)[-1].end_step


def phases_of(config: ConfigDict, resolution: int) -> list[Phase]:
  """Return the phases of a stage."""
  return [p for p in phases(config) if p.resolution == resolution]


def alpha(config: ConfigDict, step: jax.Array) -> jax.Array:
  """Return the weight, (), of a stage's new level in a step, () int32.

  It is the share of the fade's images that were shown before the step.
  """
  first = phases_of(config, config.resolution)[0]
  if not first.fades:
    return jnp.ones(())
  done = (step - first.first_step).astype(jnp.result_type(float))
  return jnp.clip(done / first.steps, 0.0, 1.0)


def part_of(tree: Any, resolution: int) -> Any:
  """Return the levels up to a resolution of networks' trees within a tree."""
  return _on_networks(
    lambda whole: {
      name: x
      for name, x in whole.items()
      if not (level := _LEVEL.search(name)) or int(level[1]) <= resolution
    },
    tree,
  )


def put_back(whole: Any, part: Any) -> Any:
  """Return a tree with other values of what `part_of` has taken from it."""
  return _on_networks(
    lambda old, new: old | new if isinstance(new, dict) else new, whole, part
  )


def _on_networks(function: Callable, *trees: Any) -> Any:
  """Map over arrays, and over networks' trees as a whole."""

  def map_one(*nodes: Any) -> Any:
    is_network = isinstance(nodes[0], dict)
    return function(*nodes) if is_network else nodes[-1]

  return jax.tree.map(map_one, *trees, is_leaf=lambda x: isinstance(x, dict))


def round_up_batches(config: ConfigDict, unit: int) -> str:
  """Return `grow_batch_sizes` in multiples of a unit."""
  table = _table(config, "grow_batch_sizes")
  return ",".join(f"{r}:{math.ceil(size / unit) * unit}" for r, size in table)


def check(config: ConfigDict) -> None:
  """Raise ValueError for impossible phases."""
  for name in ("grow_batch_sizes", "grow_learning_rates"):
    _table(config, name)
  if not config.grow_from:
    return
  if config.freeze_d:
    raise ValueError(
      f"config.freeze_d is {config.freeze_d}, but blocks of a growing network "
      "do not stay the first; choose 0, or config.grow_from 0"
    )
  needed = (config.grow_stable_kimg + config.grow_fade_kimg) * (
    len(stages(config)) - 1
  )
  if config.total_kimg < needed:
    raise ValueError(
      f"config.total_kimg is {config.total_kimg:g}, but the last fade, to "
      f"{config.resolution} pixels, ends at {needed:g}: choose at least that, "
      "or less for config.grow_fade_kimg or config.grow_stable_kimg"
    )
  steps = {(p.resolution, p.fades): p.steps for p in phases(config)}
  for resolution in stages(config):
    size, _ = _values(config, resolution)
    at = f"of {size} at {resolution} pixels; choose more"
    fades = resolution > config.grow_from and config.grow_fade_kimg
    if fades and steps.get((resolution, True), 0) < 2:
      raise ValueError(
        f"config.grow_fade_kimg is {config.grow_fade_kimg:g}, not two batches "
        f"{at}, or 0 for no fades"
      )
    if (resolution, False) not in steps:
      raise ValueError(
        f"config.grow_stable_kimg is {config.grow_stable_kimg:g}, not one "
        f"batch {at}"
      )


def _values(config: ConfigDict, resolution: int) -> tuple[int, float]:
  """Return the batch size and the learning rate at a resolution."""
  values = []
  for field, name in (
    ("batch_size", "grow_batch_sizes"),
    ("learning_rate", "grow_learning_rates"),
  ):
    value = config[field]
    if config.grow_from:
      for first, other in _table(config, name):
        value = other if resolution >= first else value
    values.append(value)
  return tuple(values)


def _table(config: ConfigDict, name: str) -> list[tuple[int, int | float]]:
  """Return the (resolution, value) of a field such as "4:128,32:64"."""
  text = config[name]
  number = int if name == "grow_batch_sizes" else float
  try:
    pairs = [each.split(":") for each in text.split(",") if text]
    table = [(int(r), number(value)) for r, value in pairs]
  except ValueError:
    table = [(0, 0)]
  resolutions = [r for r, _ in table]
  ordered = resolutions == sorted(set(resolutions))
  if not ordered or not all(r > 0 and 0 < x < 2**31 for r, x in table):
    raise ValueError(
      f"config.{name} is {text!r}; choose numbers above 0 with the resolution "
      "from which each holds, low to high, such as "
      f"{'4:128,32:64' if number is int else '4:0.001,128:0.0015'}"
    )
  return table
