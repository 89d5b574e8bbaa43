"""The reporter's bound on steps that run ahead of the devices."""

import types

from msggan_jax.runtime import clock
from msggan_jax.training import loop, reporter


def test_at_most_two_steps_are_unfinished(tmp_path):
  """Before each step, as the loop does: wait, dispatch, add."""
  finished = []

  def dispatched(step):
    return types.SimpleNamespace(
      block_until_ready=lambda: finished.append(step)
    )

  report = reporter.Reporter(
    tmp_path,
    batch_size=8,
    total_steps=9,
    first_step=0,
    tensor_names=[],
    times=clock.TimeRecord(0.0),
  )
  for step in range(1, 6):
    report.wait(loop.RUN_AHEAD)
    report.add(step, dispatched(step))
    assert finished == list(range(1, step - 1))
  report.close()
