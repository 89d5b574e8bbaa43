"""Numbers that are not finite: named, reported, and avoided on demand."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax.algorithm import randomness, train_state, train_step
from msggan_jax.checkpoints import checkpoint
from msggan_jax.checkpoints.tensors import name_of
from msggan_jax.runtime import jsonl
from msggan_jax.training import loop, nonfinite

TENSOR = "block_8x8/conv_1/kernel"  # of D


@pytest.fixture
def config(quick_config):
  """Four steps at 8x8, a checkpoint after every second, samples at step 3."""
  quick_config.resolution, quick_config.sample_kimg = 8, 0.096
  quick_config.log_kimg, quick_config.snapshot_kimg = 0.032, 0.064
  return quick_config


@pytest.fixture
def bad_tensor(monkeypatch):
  """Step 3 begins with NaN in a tensor, with the first random numbers."""
  make = train_step.TrainStep

  def make_bad(*args):
    step = make(*args)

    def bad_step(state, batch):
      hit = (state.step == 2) & (state.rollbacks == 0)
      params = jax.tree_util.tree_map_with_path(
        lambda path, x: (
          jnp.where(hit, jnp.nan, x) if name_of(path) == TENSOR else x
        ),
        state.d_params,
      )
      return step(state.replace(d_params=params), batch)

    return bad_step

  monkeypatch.setattr(train_step, "TrainStep", make_bad)


@pytest.mark.usefixtures("bad_tensor")
def test_a_run_stops_and_continues_otherwise(config, tmp_path, capsys):
  tensor = f"d_params/{TENSOR}"
  with pytest.raises(nonfinite.NonFinite, match=f" and {tensor}") as caught:
    loop.train(config, tmp_path)
  assert caught.value.step == 3
  assert "the run stands at step 2, see" in str(caught.value)
  report = json.loads((tmp_path / "not_finite.json").read_text())
  (attempt,) = report["attempts"]
  assert (attempt["step"], attempt["not_finite"][-1]) == (3, tensor)
  assert (attempt["from_step"], attempt["rollbacks"]) == (2, 0)
  with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.newest_good() == 2
  # A session with the flag is killed before the next checkpoint.
  for new, number in ((False, 0), (True, 1), (True, 1), (False, 1)):
    assert nonfinite.attempt(tmp_path, 2, new=new) == number
    assert nonfinite.attempt(tmp_path, 1, new=new) == 0

  capsys.readouterr()
  state = loop.train(config, tmp_path)
  assert "other random numbers from step 2 on" in capsys.readouterr().out
  assert int(state.step) == 4 and int(state.rollbacks) == 1
  nonfinite.check_state(4, state)
  rows = [row["step"] for row in jsonl.read(tmp_path / "stats.jsonl")]
  assert rows == [1, 2, 3, 4]
  assert not (tmp_path / "not_finite.json").exists()


def test_bad_data_ends_a_run_at_its_start(config, tmp_path, monkeypatch):
  to_float = train_step.to_float
  monkeypatch.setattr(train_step, "to_float", lambda x: jnp.nan * to_float(x))
  with pytest.raises(ValueError, match=r"new has no not_finite\.json; leave"):
    loop.train(config, tmp_path / "new", new_randomness=True)
  assert not (tmp_path / "new").exists()
  for rollbacks in (0, 1):
    with pytest.raises(
      nonfinite.NonFinite, match="d_grad_norm and d_grads/block"
    ):
      loop.train(config, tmp_path, new_randomness=rollbacks > 0)
    report = json.loads((tmp_path / "not_finite.json").read_text())
    attempts = report["attempts"]
    assert [a["rollbacks"] for a in attempts] == list(range(rollbacks + 1))
    assert {(a["step"], a["from_step"]) for a in attempts} == {(1, 0)}
  assert not jsonl.read(tmp_path / "stats.jsonl")


def test_the_first_bad_tensor_is_named():
  trees = {"b": {"x": np.ones(2), "y": np.ones(3)}, "a": [np.ones(1)]}
  names = train_state.tensor_names(trees)
  assert names == ["b/x", "b/y", "a/0"]
  assert train_state.first_not_finite(*trees.values()) == -1
  for bad in (np.nan, np.inf, -np.inf):
    trees["b"]["y"][1] = trees["a"][0][0] = bad
    assert names[train_state.first_not_finite(*trees.values())] == "b/y"
    with pytest.raises(nonfinite.NonFinite, match="step 3 has .* in b/y"):
      nonfinite.check_state(3, types.SimpleNamespace(**trees))


def test_other_random_numbers_change_the_order_of_the_data():
  assert randomness.data_seed(7, 0) == 7
  assert len({randomness.data_seed(2**32 - 1, i) for i in range(100)}) == 100
