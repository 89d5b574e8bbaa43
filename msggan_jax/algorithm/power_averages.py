"""Power-function averages of G, and any moving average from a few of them.

Karras et al. 2024 (EDM2), section 3: the average after step t weighs step s
like s^gamma. Such averages, taken at several steps, span averages of other
lengths and forms, by least squares.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.algorithm import averaging

# Standard deviations of the weights over steps, relative to the run so far
# (EDM2's sigma_rel).
WIDTHS = (0.03, 0.1, 0.25)
_MOST_BINS = 20_000  # of steps with equal weights, in the least squares
_SUM_WEIGHT = 1e3  # holds the sum of the weights to 1

Tree = Any


def exponent(width: float) -> float:
  """Return gamma of a width (EDM2, equation 126), from 0 to 0.288.

  width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
  """
  roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
  return float(roots.real.max())


def update(
  averages: tuple[Tree, ...],
  remainders: tuple[Tree, ...],
  g_params: Tree,
  step: jax.Array,
) -> tuple[tuple[Tree, ...], tuple[Tree, ...]]:
  """Move the averages to the parameters after step t, () int32, from 1.

  Also returns their remainders (`averaging.move`). The rate is
  1 - (1 - 1 / t)^(gamma + 1), computed so that it keeps its digits for large t;
  the first step replaces the initial parameters.
  """
  moved = []
  widths = WIDTHS[: len(averages)]
  for width, *average in zip(widths, averages, remainders, strict=True):
    remaining = jnp.log1p(-1.0 / step.astype(jnp.result_type(float)))
    rate = -jnp.expm1((exponent(width) + 1) * remaining)
    moved.append(averaging.move(*average, g_params, rate))
  averages, remainders = zip(*moved, strict=True) if moved else ((), ())
  return averages, remainders


def coefficients(
  steps: Sequence[int], target_step: int, decay: float
) -> tuple[np.ndarray, np.ndarray, float]:
  """Return how to combine averages kept at steps, from 1, into a moving one.

  That starts at step 0 from the initial parameters, moves by `decay` a step and
  is wanted at `target_step`, not before any of `steps`. Returns coefficients of
  the averages, (len(steps), len(WIDTHS)); that of the initial parameters, ();
  and the error of the weights over steps, relative by norm.
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
  wanted = np.exp(math.log(decay) * (target_step - edges))
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
