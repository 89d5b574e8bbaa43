"""Augmentation: D sees transformed images only (Karras et al. 2020, ADA).

Each transformation of a policy is used with the probability `strength`, drawn
per global example and shared by an example's real and its fake. The strength is
fixed, scheduled or adaptive; an adaptive one is part of the training state.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from msggan_jax.algorithm.schedules import SAME
from msggan_jax.algorithm.transformations import OUTSIDE, Transformation
from msggan_jax.kernels.precision import matmul
from msggan_jax.models import base_grid
from msggan_jax.runtime import sharding

NONE = "none"
# Where a loss has a meaningful zero: the score between reals and fakes.
BOUNDARIES = {"logistic": 0.0, "hinge": 0.0, "least_squares": 0.5}
_MEMORY = 0.75  # the signal is averaged over about four steps


# From two uniform numbers above 0 and below 1 to a transformation's number.
Draw = Callable[[jax.Array], jax.Array]


def _normal(scale: float) -> Draw:
  return lambda u: scale * jax.scipy.special.ndtri(u[0])


def _log_normal(scale: float) -> Draw:
  return lambda u: jnp.exp2(scale * jax.scipy.special.ndtri(u[0]))


def _uniform(low: float, high: float) -> Draw:
  return lambda u: low + (high - low) * u[0]


def _whole(low: int, high: int) -> Draw:
  return lambda u: _whole_pair(low, high)(u)[0]


def _whole_pair(low: int, high: int) -> Draw:
  return lambda u: low + jnp.floor((high - low + 1) * u).astype(jnp.int32)


# Transformation -> how a policy draws its number. Brightness is added, contrast
# and saturation are factors; shifts are in half images, angles in radians.
_EXACT_GEOMETRY = {
  "flip": lambda u: u[0] >= 0.5,
  "turns": _whole(0, 3),
  "cells": _whole_pair(-1, 1),
}
_ADA_COLORS = {
  "brightness": _normal(0.2),
  "contrast": _log_normal(0.5),
  "luma_flip": _whole(0, 1),
  "hue": _uniform(-math.pi, math.pi),
  "saturation": _log_normal(1.0),
}
_CUTOUT = {"cutout": lambda u: u[:2]}  # along the sides, from 0 to 1
POLICIES = {
  NONE: {},
  # Zhao et al. 2020, DiffAugment; its translation on the lattice.
  "diffaugment": {
    "brightness": _uniform(-0.5, 0.5),
    "saturation": _uniform(0.0, 2.0),
    "contrast": _uniform(0.5, 1.5),
    "cells": _EXACT_GEOMETRY["cells"],
    **_CUTOUT,
  },
  "exact": {**_ADA_COLORS, **_EXACT_GEOMETRY, **_CUTOUT},
  # ADA's "bgc": pixel blitting, geometry, colors.
  "ada": {
    **_ADA_COLORS,
    **_EXACT_GEOMETRY,
    "zoom": _log_normal(0.2),
    "rotation": _uniform(-math.pi, math.pi),
    "stretch": _log_normal(0.2),
    "last_rotation": _uniform(-math.pi, math.pi),
    "fraction": lambda u: 0.25 * jax.scipy.special.ndtri(u),
  },
}
# Above, G learns a policy's turns and hues: an untouched image is no longer the
# most frequent one (Karras et al. 2020, section 2.2).
HIGHEST = {NONE: 1.0, "diffaugment": 1.0, "exact": 0.8, "ada": 0.8}
_ROTATIONS = ("rotation", "last_rotation")
_OF_HUES = ("hue", "saturation")  # images without colors have none


@struct.dataclass
class AugmentState:
  """The state of an adaptive strength; all ()."""

  strength: jax.Array  # the probability of each transformation
  numerator: jax.Array  # running means of the overfitting signal
  denominator: jax.Array


def is_adaptive(config: ConfigDict) -> bool:
  """Return whether the strength follows D's overfitting."""
  return config.augment != NONE and config.augment_target > 0


def needs_holdout(config: ConfigDict) -> bool:
  """Return whether the signal compares with held-out images."""
  return is_adaptive(config) and bool(config.augment_holdout)


def check(config: ConfigDict) -> None:
  """Raise ValueError for impossible combinations."""
  if config.augment == NONE and (
    config.augment_target or config.augment_holdout
  ):
    raise ValueError(
      "config.augment_target and config.augment_holdout steer an augmentation, "
      "but config.augment is none; choose config.augment ada, or 0 and no "
      "held-out images"
    )
  if is_adaptive(config) and config.augment_strength_end != SAME:
    raise ValueError(
      f"config.augment_strength_end is {config.augment_strength_end}, but an "
      f"adaptive strength has no schedule; choose {SAME}, or "
      "config.augment_target 0"
    )
  ends = (config.augment_strength, config.augment_strength_end)
  strength = max(end for end in ends if end != SAME)
  if strength > HIGHEST[config.augment] and not is_adaptive(config):
    raise ValueError(
      f"config.augment_strength {strength} would teach G the turns and hues of "
      f"config.augment {config.augment}; choose at most "
      f"{HIGHEST[config.augment]}, or config.augment_target 0.6 to adapt it"
    )
  if config.augment_holdout and not is_adaptive(config):
    raise ValueError(
      f"config.augment_holdout is {config.augment_holdout!r}, but the strength "
      "is not adaptive; choose config.augment_target, such as 0.5, or no "
      "held-out images"
    )
  if (
    is_adaptive(config)
    and config.loss not in BOUNDARIES
    and not config.augment_holdout
  ):
    raise ValueError(
      f"config.loss {config.loss} has no zero between reals and fakes, so an "
      "adaptive strength needs held-out images; choose a loss that has one, "
      "such as config.loss logistic with config.penalty r1, or give "
      "config.augment_holdout"
    )


def initial_state(config: ConfigDict) -> AugmentState | tuple[()]:
  """Return the state at step 0: strength 0; (): it is not adaptive."""
  if not is_adaptive(config):
    return ()
  return AugmentState(*(jnp.zeros(()) for _ in range(3)))


def draw(
  config: Any, key: jax.Array, size: int, strength: float | jax.Array
) -> Transformation | None:
  """Draw the transformations of this device's examples, (size, ...).

  Each is used with the probability `strength`; None without augmentation.
  """
  if config.augment == NONE:
    return None
  policy, grid = POLICIES[config.augment], base_grid.parse(config.base_grid)
  are_colors = config.channels in (3, 4) and not config.dataset.get("range", "")
  num_colors = 3 if are_colors else 1

  def of_example(key):
    # All at once, because each call of the generator is much to compile.
    numbers = jax.random.uniform(key, (len(policy), 3), minval=1e-7)
    drawn, used = {}, {}
    for (name, draw_number), (gate, *place) in zip(
      policy.items(), numbers, strict=True
    ):
      drawn[name] = draw_number(jnp.stack(place))
      # Two rotations, each with 1 - sqrt(1 - p): one of them with p.
      probability = (
        1 - (1 - strength) ** 0.5 if name in _ROTATIONS else strength
      )
      used[name] = gate < probability

    def choose(name: str, unused: Any) -> Any:
      if name not in policy:
        return None
      return jnp.where(used[name], drawn[name], unused)

    if "turns" in policy and grid[0] != grid[1]:
      drawn["turns"] = drawn["turns"] // 2 * 2
    if "cutout" in policy:  # its corner is a cell from -1 to the last one
      corner = drawn["cutout"]
      cells = jnp.floor(corner * (jnp.array(grid, corner.dtype) + 1))
      drawn["cutout"] = cells.astype(jnp.int32) - 1
    return Transformation(
      color=_color(num_colors, policy, choose),
      flip=choose("flip", unused=False),
      turns=choose("turns", 0),
      cells=choose("cells", 0),
      warp=_warp(choose, grid) if "zoom" in policy else None,
      cutout=choose("cutout", OUTSIDE),
    )

  return jax.vmap(of_example)(sharding.example_keys(key, size))


def statistics(
  config: ConfigDict, real_logits: jax.Array
) -> dict[str, jax.Array]:
  """Return what `overfitting` needs beside the mean logits of D's step."""
  if not is_adaptive(config) or needs_holdout(config):
    return {}
  signs = jnp.sign(real_logits - BOUNDARIES[config.loss])
  return {"real_signs": sharding.global_mean(signs)}


def overfitting(
  values: dict[str, jax.Array], held_out: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Return the signal that an adaptive strength follows: r, as a fraction.

  With held-out images ADA's r_v = (D(reals) - D(held out)) / (D(reals) -
  D(fakes)), else r_t = E sign(D(reals)), by the loss's zero.

  `values` are means over the global batch, with `statistics`, and so is
  `held_out`, the logit of held-out images; None: there are none.
  """
  if held_out is None:
    signs = values["real_signs"]
    return signs, jnp.ones_like(signs)
  reals = values["real_logits"]
  return reals - held_out, reals - values["fake_logits"]


def adapt(
  config: ConfigDict, state: AugmentState, signal: tuple[jax.Array, jax.Array]
) -> AugmentState:
  """Move the strength toward r = `augment_target`, one step's way.

  From 0 to 1 it takes at least `augment_kimg`; it stays within 0 and
  `augment_strength`, and below what G would learn.
  """
  numerator, denominator = (
    (_MEMORY * old + (1 - _MEMORY) * new).astype(old.dtype)
    for old, new in zip(
      (state.numerator, state.denominator), signal, strict=True
    )
  )
  moved = state.replace(numerator=numerator, denominator=denominator)
  way = config.batch_size / (1000 * config.augment_kimg)
  strength = state.strength + way * jnp.sign(
    rate(moved) - config.augment_target
  )
  highest = min(config.augment_strength, HIGHEST[config.augment])
  return moved.replace(strength=jnp.clip(strength, 0.0, highest))


def rate(state: AugmentState) -> jax.Array:
  """Return r, (); 0 while D does not score reals above fakes."""
  positive = state.denominator > 0
  denominator = jnp.where(positive, state.denominator, 1.0)
  return jnp.where(positive, state.numerator / denominator, 0.0)


def _color(
  num_colors: int, policy: dict, choose: Callable
) -> tuple[jax.Array, jax.Array]:
  """Return the matrix and the offset of a policy's color changes, in order."""
  identity = jnp.eye(num_colors)
  luma = jnp.full((num_colors, num_colors), 1 / num_colors)
  changes = {  # the number that changes nothing, and a number's matrix
    "contrast": (1.0, lambda x: x * identity),
    "luma_flip": (0, lambda x: identity - 2 * x * luma),
    "hue": (0.0, _about_luma),
    "saturation": (1.0, lambda x: luma + x * (identity - luma)),
  }
  matrix, offset = identity, jnp.zeros(num_colors)
  for name in policy:
    if name == "brightness":
      offset = offset + choose(name, 0.0)
    elif name in changes and (num_colors == 3 or name not in _OF_HUES):
      unused, matrix_of = changes[name]
      change = matrix_of(choose(name, unused).astype(identity.dtype))
      matrix, offset = matmul(change, matrix), matmul(change, offset)
  return matrix, offset


def _about_luma(angle: jax.Array) -> jax.Array:
  """Return the rotation about the axis of grays, (3, 3); Rodrigues' formula."""
  axis = 1 / math.sqrt(3)
  cross = jnp.array([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]])
  return (
    jnp.eye(3)
    + jnp.sin(angle) * cross
    + (1 - jnp.cos(angle)) * matmul(cross, cross)
  )


def _warp(choose: Callable, grid: tuple[int, int]) -> jax.Array:
  """Return the map from the result's coordinates to the image's, (2, 3)."""

  def rotation(angle):
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[c, s], [-s, c]])

  # The inverse of the image's changes, so that the last one comes first.
  stretch = choose("stretch", 1.0)
  matrix = matmul(
    rotation(choose("rotation", 0.0)),
    jnp.diag(jnp.array([1 / stretch, stretch])),
  )
  matrix = matmul(matrix, rotation(choose("last_rotation", 0.0)))
  matrix /= choose("zoom", 1.0)
  # Coordinates go from -1 to 1 along both sides, whatever their lengths are.
  sides = jnp.array(grid, matrix.dtype)
  matrix *= sides[None, :] / sides[:, None]
  shift = matmul(matrix, choose("fraction", 0.0)[:, None])
  return jnp.concatenate([matrix, -shift], axis=1)
