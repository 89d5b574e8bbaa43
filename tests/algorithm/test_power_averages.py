"""Power-function averages against their weights over steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import power_averages
from msggan_jax.algorithm.power_averages import WIDTHS, exponent


def path_of_parameters(steps, size=200, seed=0):
  """Return (steps + 1, size): a start, a random walk and noise."""
  rng = np.random.default_rng(seed)
  walk = np.cumsum(0.01 * rng.normal(size=(steps + 1, size)), axis=0)
  noise = 0.05 * rng.normal(size=(steps + 1, size))
  return rng.normal(size=size) + walk + noise


def weights_of_average(step, width):
  """Return the weights of steps 0 to `step`: (s/t)^(gamma+1) up to step s."""
  shares = (np.arange(step + 1) / step) ** (exponent(width) + 1)
  return np.diff(shares, prepend=0.0)


@pytest.mark.parametrize("width", [*WIDTHS, 0.01, 0.28])
def test_widths_are_standard_deviations(width):
  gamma = exponent(width)
  expected = (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5
  assert expected == pytest.approx(width)
  weights = weights_of_average(10_000, width)
  places = np.arange(10_001) / 10_000
  mean = weights @ places
  spread = np.sqrt(weights @ (places - mean) ** 2)
  assert spread == pytest.approx(width, rel=1e-3)


def test_tracked_averages_have_their_weights(float64):
  steps = 30
  path = path_of_parameters(steps)
  averages = tuple({"w": jnp.asarray(path[0])} for _ in WIDTHS)
  remainders = jax.tree.map(jnp.zeros_like, averages)
  update = jax.jit(power_averages.update)
  for step in range(1, steps + 1):
    averages, remainders = update(
      averages, remainders, {"w": path[step]}, jnp.int32(step)
    )
  for width, average in zip(WIDTHS, averages, strict=True):
    expected = weights_of_average(steps, width) @ path
    np.testing.assert_allclose(average["w"], expected, rtol=1e-9)


def test_rates_keep_their_digits_in_float32():
  step = 3_000_000
  zeros = tuple({"w": jnp.zeros(1)} for _ in WIDTHS)
  (average, *_), _ = jax.jit(power_averages.update)(
    zeros, zeros, {"w": jnp.ones(1)}, jnp.int32(step)
  )
  expected = (exponent(WIDTHS[0]) + 1) / step
  np.testing.assert_allclose(average["w"], expected, rtol=1e-4)


@pytest.mark.parametrize(
  ("snapshots", "lengths"),
  [(8, (0.02, 0.05, 0.1, 0.2)), (20, (0.01, 0.02, 0.1, 0.3, 1.0))],
)
def test_moving_averages_are_reconstructed(snapshots, lengths):
  """Half-lives as shares of the run: < 1e-3 of the tracked average."""
  steps = 2000
  path = path_of_parameters(steps)
  kept = [steps * (i + 1) // snapshots for i in range(snapshots)]
  averages = np.array(
    [
      [weights_of_average(step, width) @ path[: step + 1] for width in WIDTHS]
      for step in kept
    ]
  )
  for length in lengths:
    decay = 0.5 ** (1 / (length * steps))
    tracked = path[0]
    for parameters in path[1:]:
      tracked = decay * tracked + (1 - decay) * parameters
    of_averages, of_initial, error = power_averages.coefficients(
      kept, steps, decay
    )
    made = np.einsum("sw,swp->p", of_averages, averages) + of_initial * path[0]
    relative = np.linalg.norm(made - tracked) / np.linalg.norm(tracked)
    assert relative < 1e-3, length
    assert of_averages.sum() + of_initial == pytest.approx(1, abs=1e-6)
    assert error < 0.2


def test_a_length_out_of_reach_has_an_error():
  *_, error = power_averages.coefficients([500, 1000], 1000, 0.5)
  assert error > 0.5


def test_long_runs_are_binned():
  """200,000 steps in 20,000 bins: as 20,000 steps, ten times as long."""
  scaled = [np.array([2, 5, 10]) * 2000, np.array([2, 5, 10]) * 20_000]
  short = power_averages.coefficients(scaled[0], 20_000, 0.5 ** (1 / 1000))
  long = power_averages.coefficients(scaled[1], 200_000, 0.5 ** (1 / 10_000))
  np.testing.assert_allclose(long[0], short[0], atol=2e-3)
