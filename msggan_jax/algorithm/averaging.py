"""Averages of G's parameters in float32 that keep their digits.

An average that moves by `rate` a step is off by up to 2^-25 / rate in float32
alone, which rounds 1 - rate and loses small moves. So a slow one has a
remainder, the lost part of its last move (Kahan 1965).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from msggan_jax.algorithm.schedules import SAME

_SLOW = 5e-4  # a step; faster ones are off by less than 6e-5

Tree = Any


def move(
  average: Tree, remainder: Tree, new: Tree, rate: float | jax.Array
) -> tuple[Tree, Tree]:
  """Return the average of parameters after a step, and its remainder.

  The remainder is a tree like them, at first of zeros; (): none is kept.
  """
  if not remainder:
    return optax.incremental_update(new, average, rate), ()
  moves = jax.tree.map(
    lambda a, r, n: rate * (n - a) + r, average, remainder, new
  )
  moved = jax.tree.map(jnp.add, average, moves)
  remainder = jax.tree.map(
    lambda a, move, b: move - (b - a), average, moves, moved
  )
  return moved, remainder


def ema_rate(config: ConfigDict, now: Any) -> float | jax.Array:
  """Return how far the EMA moves in a step, by the values at the step.

  1 - `ema_decay` if it is set, else by the half-life `ema_kimg`:
  1 - 0.5^(batch_size / (1000 ema_kimg)); both 0: 1, no averaging.
  """
  if config.ema_decay:
    return 1 - config.ema_decay
  if isinstance(now.ema_kimg, jax.Array):  # scheduled; 0 at its start
    half_lives = config.batch_size / (1000 * jnp.maximum(now.ema_kimg, 1e-9))
    if ema_is_slow(config):
      return -jnp.expm1(-math.log(2) * half_lives)
    return 1 - jnp.exp2(-half_lives)
  return _constant_rate(config, now.ema_kimg)


def ema_is_slow(config: ConfigDict) -> bool:
  """Return whether the EMA needs a remainder, at any step."""
  if config.ema_decay:
    return 1 - config.ema_decay < _SLOW
  lengths = (config.ema_kimg, config.ema_kimg_end)
  longest = max(kimg for kimg in lengths if kimg != SAME)
  return _constant_rate(config, longest) < _SLOW


def _constant_rate(config: ConfigDict, ema_kimg: float) -> float:
  if not ema_kimg:
    return 1.0
  return 1 - 0.5 ** (config.batch_size / (1000 * ema_kimg))
