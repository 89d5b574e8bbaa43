"""The training step: forms, lazy penalties, all-reduces.

`tests/test_example.py` compares its parameters with the plain form.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax import kernels
from msggan_jax.algorithm import train_step
from tests.algorithm.runs import Run, assert_same, small_config


@pytest.mark.slow
@pytest.mark.parametrize(
  ("preset", "changes"),
  [
    ("msg_progan", {}),
    ("msg_stylegan", {}),
    ("msg_progan", {"augment": "exact", "augment_strength": 0.5}),
    (
      "msg_progan",
      {"augment": "exact", "augment_target": 0.5, "augment_holdout": "test"},
    ),
    ("msg_progan", {"micro_batch_size": 4, "batch_size": 16}),
    ("msg_progan", {"pyramid": "exact"}),
  ],
)
def test_a_run_goes_on_in_folded_form(preset, changes, float64):
  """Two plain steps are one plain and one folded step, on two devices."""
  changes = {"batch_size": 8, "resolution": 16} | changes
  config = small_config(preset, **changes)
  plain, mixed = (
    Run(config, 2, forms) for forms in (kernels.BY_PLATFORM, kernels.FOLDED)
  )
  mixed.state = jax.tree.map(jnp.copy, plain.train(1).state)
  plain.state, _ = plain.step(plain.state, plain.batch(1))
  mixed.state, _ = mixed.step(mixed.state, mixed.batch(1))
  assert_same(mixed.state, plain.state)


def test_a_lazy_penalty_is_twice_as_strong_at_every_second_step(float64):
  weight = small_config("msg_progan").gp_weight
  lazy, twice, none = (
    Run(small_config("msg_progan", resolution=4, batch_size=4, **fields), 2)
    for fields in (
      {"penalty_interval": 2},
      {"gp_weight": 2 * weight},
      {"penalty": "none"},
    )
  )
  assert_same(lazy.train(1).state.d_params, twice.train(1).state.d_params)
  none.state = jax.tree.map(jnp.copy, lazy.state)
  for run in (lazy, none):
    run.state, run.metrics = run.step(run.state, run.batch(1))
  assert_same(lazy.state.d_params, none.state.d_params)
  assert lazy.metrics.counts["gradient_penalty/4"] == 0


def test_a_step_is_traced_once_and_all_reduces_gradients_once(
  tiny_config, monkeypatch
):
  """State is donated; CPUs reduce a vector per network, and some scalars."""
  tiny_config.resolution = 8
  traces, call = [], train_step.TrainStep.__call__

  def counted(self, *arguments):
    traces.append(arguments)
    return call(self, *arguments)

  monkeypatch.setattr(train_step.TrainStep, "__call__", counted)
  run = Run(tiny_config, 8)
  old = run.state
  text = run.step.lower(old, run.batch()).compile().as_text()
  run.train(3)
  assert len(traces) == 1
  assert all(x.is_deleted() for x in jax.tree.leaves(old))
  assert not re.search(r"all-gather|all-to-all|reduce-scatter", text)
  reduced = []
  for line in text.splitlines():
    if not re.search(r"= .* all-reduce(-start)?\(", line):
      continue
    shapes = re.findall(r"f32\[([\d,]*)\]", line.split(" all-reduce")[0])
    reduced += [
      int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes
    ]
  gradients = [
    sum(x.size for x in jax.tree.leaves(params))
    for params in (run.start.g_params, run.start.d_params)
  ]
  *scalars, smaller, larger = sorted(reduced)
  assert [smaller, larger] == sorted(gradients)
  assert sum(scalars) <= 64
