"""Averages of G's parameters: the EMA, and some that make any other EMA.

Power-function averages (Karras et al. 2024, EDM2, section 3): the one after
step t weighs step s like s^gamma. Taken at several steps, they span averages of
other lengths and forms, by least squares.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

# Standard deviations of the power-function averages' weights over steps,
# relative to the run so far (EDM2's sigma_rel).
WIDTHS = (0.03, 0.1, 0.25)

_MOST_BINS = 20_000  # of steps with equal weights, in the least squares
_SUM_WEIGHT = 1e3  # holds the sum of the weights to 1

Tree = Any


def move(average: Tree, new: Tree, rate: float | jax.Array) -> Tree:
  """Return the average of parameters after a step.

  1 - rate would be rounded, so it is not computed. In float32 moves below 2^-25
  of a parameter are lost, which averages out over steps that differ.
  """
  if isinstance(rate, float) and rate == 1:  # no averaging
    return new
  return jax.tree.map(lambda a, n: a + rate * (n - a), average, new)


def ema_rate(config: ConfigDict, now: Any) -> float | jax.Array:
  """Return how far the EMA moves in a step, by the values at the step.

  1 - `ema_decay` if it is set, else by the half-life `ema_kimg`:
  1 - 0.5^(batch_size / (1000 ema_kimg)); both 0: 1, no averaging.
  """
  if config.ema_decay:
    return 1 - config.ema_decay
  if isinstance(now.ema_kimg, jax.Array):  # scheduled; 0 at its start
    half_lives = config.batch_size / (1000 * jnp.maximum(now.ema_kimg, 1e-9))
    return -jnp.expm1(-math.log(2) * half_lives)
  if not now.ema_kimg:
    return 1.0
  return 1 - 0.5 ** (config.batch_size / (1000 * now.ema_kimg))


def exponent(width: float) -> float:
  """Return gamma of a width (EDM2, equation 126), from 0 to 0.288.

  width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
  """
  roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
  return float(roots.real.max())


def move_power_averages(
  averages: tuple[Tree, ...], g_params: Tree, step: jax.Array
) -> tuple[Tree, ...]:
  """Move the averages to the parameters after step t, () int32, from 1.

  The rate is 1 - (1 - 1 / t)^(gamma + 1), computed so that it keeps its digits
  for large t; the first step replaces the initial parameters.
  """
  remaining = jnp.log1p(-1.0 / step.astype(jnp.result_type(float)))
  rates = [-jnp.expm1((exponent(width) + 1) * remaining) for width in WIDTHS]
  return tuple(
    move(average, g_params, rate)
    for average, rate in zip(averages, rates, strict=False)
  )


def power_coefficients(
  steps: Sequence[int],
  target_step: int,
  half_lives: Callable[[Any], Any],
) -> tuple[np.ndarray, np.ndarray, float]:
  """Return how to combine averages kept at steps, from 1, into a moving one.

  The moving average starts at step 0 from the initial parameters and is wanted
  at `target_step`, not before any of `steps`; `half_lives` returns how many of
  its half-lives a number of steps takes from the start.
  Returns coefficients of the averages, (len(steps), len(WIDTHS)); that of the
  initial parameters, (); and the error of the weights over steps, relative by
  norm.
  """
  bins = min(target_step, _MOST_BINS)
  # Bins of steps: (edges[i - 1], edges[i]]; the first is step 0 alone.
  edges = np.unique(np.linspace(0, target_step, bins + 1).round())
  profiles = [
    np.minimum(edges / step, 1.0) ** (exponent(width) + 1)
    for step in steps
    for width in WIDTHS
  ]
  profiles.append(np.ones_like(edges))  # the initial parameters
  wanted = 0.5 ** (half_lives(target_step) - half_lives(edges))
  # Weights in bins, scaled so that their squares sum to the norm over steps.
  root_sizes = np.sqrt(np.diff(edges, prepend=-1.0))
  in_bins = np.diff([*profiles, wanted], axis=1, prepend=0.0) / root_sizes
  matrix, right = in_bins[:-1].T, in_bins[-1]
  sums = np.full((1, len(profiles)), _SUM_WEIGHT)
  solution = np.linalg.lstsq(
    np.concatenate([matrix, sums]), np.append(right, _SUM_WEIGHT), rcond=1e-10
  )[0]
  error = np.linalg.norm(matrix @ solution - right) / np.linalg.norm(right)
  shape = len(steps), len(WIDTHS)
  return solution[:-1].reshape(shape), solution[-1], float(error)
