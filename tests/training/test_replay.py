"""A run can be replayed; what has changed since is named."""

import jax.numpy as jnp
import pytest

from msggan_jax.checkpoints import checkpoint
from msggan_jax.training import loop, replay


@pytest.fixture
def config(quick_config):
  """Four steps, a checkpoint at each."""
  quick_config.snapshot_kimg, quick_config.keep = 0.032, 4
  return quick_config


def test_steps_are_replayed(config, tmp_path, capsys):
  run = tmp_path / "run"
  loop.train(config, run)
  with checkpoint.Checkpoints(run / "checkpoints") as checkpoints:
    assert checkpoints.steps == [1, 2, 3, 4]
    assert replay._choose(checkpoints, "") == [3, 4]
    assert replay._choose(checkpoints, "0,3") == [0, 1, 2, 3]
    for text in ("4,2", "7", "7,", "a,b", "1,2,3", "-1,4"):
      with pytest.raises(
        ValueError, match=f"verify={text}: give two steps, an"
      ):
        replay._choose(checkpoints, text)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 7; there are"):
      replay._choose(checkpoints, "2,7")
  capsys.readouterr()
  replay.verify(config, run, "0,4")
  lines = capsys.readouterr().out.splitlines()
  assert [line.partition(":")[0] for line in lines] == [
    "step 1",
    "step 2",
    "step 3",
    "step 4",
  ]
  assert all("tensors agree, SHA-256" in line for line in lines)
  config.total_kimg = 0.096  # of the command before the run was extended
  with pytest.raises(ValueError, match="trained for 0.128 kimg already"):
    replay.verify(config, run, "")


def test_the_first_tensor_that_differs_is_named(capsys):
  state = {"a": jnp.zeros(3), "b": jnp.arange(4.0), "c": jnp.ones(())}
  other = {**state, "b": state["b"].at[1].add(0.5), "c": jnp.zeros(())}
  replay._compare("step 2", state, state)
  said = capsys.readouterr().out
  assert said.startswith("step 2: all 3 tensors agree, SHA-256 ")
  with pytest.raises(
    replay.Mismatch,
    match=r"step 2: 2 of 3 tensors differ, first b, in 1 of 4 .* at most 0\.5;",
  ):
    replay._compare("step 2", state, other)
