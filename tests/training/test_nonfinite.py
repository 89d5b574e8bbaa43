"""Numbers that are not finite: named, rolled back, and in the end refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import (
  accumulation,
  finite,
  randomness,
  train_step,
)
from msggan_jax.runtime import jsonl
from msggan_jax.training import loop, nonfinite
from tests.runs.test_train import config, few_cats  # noqa: F401

TENSOR = "block_8x8/conv_1/kernel"  # of D


def spoil_if(hit, tree):
  """Make the tensor NaN."""

  def spoil(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return jnp.where(hit, jnp.nan, x) if name == TENSOR else x

  return jax.tree_util.tree_map_with_path(spoil, tree)


@pytest.fixture
def bad_parameter(monkeypatch):
  """Step 3 leaves a bad parameter, unless there was a rollback."""
  make = train_step.TrainStep

  def make_bad(*args):
    step = make(*args)

    def bad_step(state, batch):
      hit = (state.step == 2) & (state.rollbacks == 0)
      state, metrics = step(state, batch)
      return state.replace(d_params=spoil_if(hit, state.d_params)), metrics

    return bad_step

  monkeypatch.setattr(train_step, "TrainStep", make_bad)
  return "d_params"


@pytest.fixture
def bad_gradient(monkeypatch):
  """Step 3 computes a bad gradient, unless there was a rollback."""
  make, vary = train_step.TrainStep, accumulation.sharding.vary
  hit = None

  def make_bad(*args):
    step = make(*args)

    def bad_step(state, batch):
      nonlocal hit
      hit = (state.step == 2) & (state.rollbacks == 0)
      return step(state, batch)

    return bad_step

  @jax.custom_vjp
  def with_bad_gradient(params, hit):
    return params

  with_bad_gradient.defvjp(
    lambda params, hit: (params, hit),
    lambda hit, cotangent: (spoil_if(hit, cotangent), None),
  )

  def bad_vary(params):
    is_discriminator = "score" in params
    params = vary(params)
    return with_bad_gradient(params, hit) if is_discriminator else params

  monkeypatch.setattr(train_step, "TrainStep", make_bad)
  monkeypatch.setattr(accumulation.sharding, "vary", bad_vary)
  return "d_grads"


@pytest.mark.parametrize(
  ("trouble", "log_steps", "noticed_at", "rows"),
  [
    pytest.param("bad_parameter", 4, 4, [2, 4], marks=pytest.mark.slow),
    ("bad_gradient", 1, 3, [1, 2, 3, 4]),
  ],
)
def test_a_run_goes_back_and_on(
  config,  # noqa: F811
  tmp_path,
  request,
  capsys,
  trouble,
  log_steps,
  noticed_at,
  rows,
):
  tree = request.getfixturevalue(trouble)
  config.log_kimg *= log_steps
  state = loop.train(config, tmp_path)
  said = capsys.readouterr().out
  assert f"step {noticed_at} has NaN or Inf in" in said
  assert f" and {tree}/{TENSOR}: rolled back to step 2" in said
  assert "attempt 1 of at most 3" in said
  assert int(state.step) == 4 and int(state.rollbacks) == 1
  nonfinite.check_state(4, state)
  written = jsonl.read(tmp_path / "stats.jsonl")
  assert [row["step"] for row in written] == rows
  assert written[-1]["secs/lost"] > 0
  [rollback] = jsonl.read(tmp_path / nonfinite.ROLLBACKS)
  assert (rollback["step"], rollback["to_step"]) == (noticed_at, 2)
  assert rollback["not_finite"][-1] == f"{tree}/{TENSOR}"


def test_bad_data_ends_a_run_after_its_attempts(
  config,  # noqa: F811
  tmp_path,
  monkeypatch,
):
  to_float = train_step.to_float
  monkeypatch.setattr(train_step, "to_float", lambda x: jnp.nan * to_float(x))
  config.max_rollbacks = 1
  with pytest.raises(
    nonfinite.NonFinite, match="d_grad_norm and d_grads/block"
  ):
    loop.train(config, tmp_path)
  report = json.loads((tmp_path / "not_finite.json").read_text())
  assert [attempt["step"] for attempt in report["attempts"]] == [1, 1]
  assert report["from_step"] == report["from_rollbacks"] == 0
  assert not jsonl.read(tmp_path / "stats.jsonl")


def test_the_first_bad_tensor_is_named():
  trees = {"b": {"x": np.ones(2), "y": np.ones(3)}, "a": [np.ones(1)]}
  names = finite.tensor_names(trees)
  assert names == ["b/x", "b/y", "a/0"]
  assert finite.first_not_finite(*trees.values()) == -1
  for bad in (np.nan, np.inf, -np.inf):
    trees["b"]["y"][1] = trees["a"][0][0] = bad
    assert names[finite.first_not_finite(*trees.values())] == "b/y"


def test_rollbacks_change_the_order_of_the_data():
  assert randomness.data_seed(7, 0) == 7
  assert len({randomness.data_seed(2**32 - 1, i) for i in range(100)}) == 100
