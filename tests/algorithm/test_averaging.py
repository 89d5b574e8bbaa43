"""Averages of G against float64 and against their weights over steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import averaging
from msggan_jax.algorithm.averaging import WIDTHS, exponent
from tests.algorithm.runs import small_config


def path_of_parameters(steps, size=200):
  """Return (steps + 1, size): a start, a random walk and noise."""
  rng = np.random.default_rng(0)
  walk = np.cumsum(0.01 * rng.normal(size=(steps + 1, size)), axis=0)
  noise = 0.05 * rng.normal(size=(steps + 1, size))
  return rng.normal(size=size) + walk + noise


def error_of(average, path, rates):
  """Return the norm of an average's error, relative."""
  expected = path[0].astype(np.float64)
  for new, rate in zip(path[1:], rates, strict=True):
    expected += rate * (new - expected)
  error = np.asarray(average, np.float64) - expected
  return np.linalg.norm(error) / np.linalg.norm(expected)


@pytest.mark.parametrize("ema_decay", [0.9993, 0.9999, 1 - 1e-6])
def test_the_ema_errs_by_rounding(ema_decay):
  config = small_config(ema_decay=ema_decay)
  steps, rate = 50_000, averaging.ema_rate(config, None)
  assert rate == pytest.approx(1 - ema_decay)
  path = path_of_parameters(steps, 64).astype(np.float32)

  def body(average, new):
    return averaging.move(average, new, rate), None

  average, _ = jax.jit(jax.lax.scan, static_argnums=0)(
    body, jnp.asarray(path[0]), path[1:]
  )
  error = error_of(average, path, [rate] * steps)
  assert error < 1e-5


@pytest.mark.parametrize("first", [1, 1_000_000])
def test_power_averages_err_by_rounding(first):
  """From the first step on, and around a million: rates of 2e-6 to 2e-5."""
  steps = 50_000
  path = path_of_parameters(steps, 64).astype(np.float32)
  start = tuple({"w": jnp.asarray(path[0])} for _ in WIDTHS)

  def body(carry, new):
    step, averages = carry
    moved = averaging.move_power_averages(averages, {"w": new}, step)
    return (step + 1, moved), None

  carry = jnp.int32(first), start
  (_, averages), _ = jax.jit(jax.lax.scan, static_argnums=0)(
    body, carry, path[1:]
  )
  shares = 1 / (first + np.arange(steps))
  for width, average in zip(WIDTHS, averages, strict=True):
    rates = 1 - (1 - shares) ** (exponent(width) + 1)
    assert error_of(average["w"], path, rates) < 1e-5


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
    of_averages, of_initial, error = averaging.power_coefficients(
      kept, steps, lambda step, length=length * steps: step / length
    )
    made = np.einsum("sw,swp->p", of_averages, averages) + of_initial * path[0]
    relative = np.linalg.norm(made - tracked) / np.linalg.norm(tracked)
    assert relative < 1e-3, length
    assert of_averages.sum() + of_initial == pytest.approx(1, abs=1e-6)
    assert error < 0.2


def test_a_length_out_of_reach_has_an_error():
  *_, error = averaging.power_coefficients([500, 1000], 1000, lambda step: step)
  assert error > 0.5


def test_long_runs_are_binned():
  """200,000 steps in 20,000 bins: as 20,000 steps, ten times as long."""
  scaled = [np.array([2, 5, 10]) * 2000, np.array([2, 5, 10]) * 20_000]
  short, long = (
    averaging.power_coefficients(kept, steps, lambda x, n=steps: 20 * x / n)
    for kept, steps in zip(scaled, (20_000, 200_000), strict=True)
  )
  np.testing.assert_allclose(long[0], short[0], atol=2e-3)
