"""Slow averages in float32, against float64; which of them are slow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import averaging, power_averages
from msggan_jax.algorithm.train_state import REMAINDERS
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.runtime import sharding
from tests.algorithm.runs import Run, assert_same, small_config

SIZE = 64  # parameters


def parameters(steps):
  """Return (steps + 1, SIZE): a drift of a twentieth and noise of a tenth."""
  rng = np.random.default_rng(0)
  center = rng.normal(size=SIZE) * np.linspace(1, 1.05, steps + 1)[:, None]
  return (center + 0.1 * rng.normal(size=(steps + 1, SIZE))).astype(np.float32)


def error_of(average, path, rates):
  """Return the norm of an average's error, relative."""
  expected = path[0].astype(np.float64)
  for new, rate in zip(path[1:], rates, strict=True):
    expected += rate * (new - expected)
  error = np.asarray(average, np.float64) - expected
  return np.linalg.norm(error) / np.linalg.norm(expected)


@pytest.mark.parametrize("ema_decay", [0.99, 0.9993, 0.9999, 0.99999, 1 - 1e-6])
def test_the_ema_errs_by_rounding(ema_decay):
  """Up to 6e-5 if it is fast; alone, float32 would be off by 1e-3 and more."""
  config = small_config(ema_decay=ema_decay)
  steps, rate = 50_000, averaging.ema_rate(config, None)
  path = parameters(steps)
  slow = averaging.ema_is_slow(config)
  remainder = {"w": jnp.zeros(SIZE)} if slow else ()

  def body(carry, new):
    return averaging.move(*carry, {"w": new}, rate), None

  start = {"w": jnp.asarray(path[0])}, remainder
  (average, _), _ = jax.jit(jax.lax.scan, static_argnums=0)(
    body, start, path[1:]
  )
  error = error_of(average["w"], path, [rate] * steps)
  assert error < (1e-7 if slow else 6e-5)


def test_power_averages_err_by_rounding():
  """Steps around a million, where a rate is 2e-6 to 2e-5."""
  steps, first = 50_000, 1_000_000
  path = parameters(steps)
  widths = power_averages.WIDTHS
  start = tuple({"w": jnp.asarray(path[0])} for _ in widths)

  def body(carry, new):
    step, averages = carry
    moved = power_averages.update(*averages, {"w": new}, step)
    return (step + 1, moved), None

  carry = jnp.int32(first), (start, jax.tree.map(jnp.zeros_like, start))
  (_, (averages, _)), _ = jax.jit(jax.lax.scan, static_argnums=0)(
    body, carry, path[1:]
  )
  shares = 1 / (first + np.arange(steps))
  for width, average in zip(widths, averages, strict=True):
    exponent = power_averages.exponent(width) + 1
    rates = -np.expm1(exponent * np.log1p(-shares))
    assert error_of(average["w"], path, rates) < 1e-7


def test_slow_averages_are_known_by_their_slowest_rate():
  for fields, slow in (
    ({"ema_kimg": 0.0}, False),
    ({"ema_kimg": 4.0, "batch_size": 4}, False),  # the demo
    ({"ema_kimg": 10.0, "batch_size": 4}, True),
    ({"ema_kimg": 0.0, "ema_kimg_end": 100.0, "burn_in_kimg": 1.0}, True),
    ({"ema_decay": 0.999, "ema_kimg": 1000.0}, False),
    ({"ema_decay": 0.9999}, True),
  ):
    assert averaging.ema_is_slow(small_config(**fields)) == slow, fields


def test_a_checkpoint_without_remainders_starts_with_zeros(tmp_path):
  config = small_config(ema_decay=0.99999, ema_averages=True, penalty="none")
  config.resolution = 4
  run = Run(config).train(1)
  assert any(np.any(x) for x in jax.tree.leaves(run.state.ema_remainder))
  abstract = sharding.abstract(run.state, sharding.replicated(run.mesh))
  older = run.state.replace(**dict.fromkeys(REMAINDERS, ()))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save(1, run.state)
    checkpoints.save(2, older)
    checkpoints.wait()
    assert_same(checkpoints.restore(abstract, 1, REMAINDERS), run.state)
    state = checkpoints.restore(abstract, 2, REMAINDERS)
    with pytest.raises(ValueError, match="ema_remainder.* is missing"):
      checkpoints.restore(abstract, 2)
  assert_same(state.ema_params, run.state.ema_params)
  assert jax.tree.structure(state) == jax.tree.structure(run.state)
  assert not any(np.any(x) for x in jax.tree.leaves(state.ema_remainder))
  run.state = state
  run.train(1)
