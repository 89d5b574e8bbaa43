"""The training step: devices, forms, all-reduces, lazy penalty, optimizers.

`tests/test_example.py` compares its parameters with the plain form.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msggan_jax.algorithm import train_state, train_step
from msggan_jax.models import networks
from msggan_jax.runtime import sharding
from tests.algorithm.test_variants import small_config
from tests.models.test_networks import random_arrays


@pytest.fixture
def config(tiny_config):
  tiny_config.resolution = 8
  return tiny_config


def make_batch(config, step=0):
  rng = np.random.default_rng(step)
  shape = (config.batch_size, config.resolution, config.resolution, 3)
  return {
    "image": rng.integers(0, 256, shape, dtype=np.uint8),
    "label": np.zeros(config.batch_size, np.int32),
  }


class Run:
  """A training state and its compiled step on some of the devices."""

  def __init__(self, config, num_devices, dtype=None, folding=False):
    self.config = config
    self.generator = networks.make_generator(config, folding=folding)
    self.discriminator = networks.make_discriminator(config, folding=folding)
    self.optimizer = train_state.make_optimizer(config)
    parts = (config, self.generator, self.discriminator, self.optimizer)
    self.mesh = sharding.make_mesh(jax.devices()[:num_devices])
    state = jax.jit(lambda: train_state.create_train_state(*parts))()
    if dtype is not None:
      state = jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, float) else x,
        state,
      )
    self.state = jax.device_put(state, sharding.replicated(self.mesh))
    self.traces = 0
    step = train_step.TrainStep(*parts)

    def counted(state, batch):
      self.traces += 1
      return step(state, batch)

    self.step = sharding.shard_step(counted, self.mesh)

  def batch(self, step=0):
    return sharding.put_batch(self.mesh, make_batch(self.config, step))

  def train(self, steps):
    for step in range(steps):
      self.state, self.metrics = self.step(self.state, self.batch(step))
    return self


def relative_error(ours, reference):
  """Return the largest relative error by norm over a tree's arrays."""
  errors = jax.tree.map(
    lambda a, b: (
      np.linalg.norm(np.asarray(a) - np.asarray(b))
      / (np.linalg.norm(np.asarray(b)) + 1e-30)
    ),
    ours,
    reference,
  )
  return max(jax.tree.leaves(errors))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("preset", "changes"),
  [
    ("msg_progan", {}),
    ("msg_stylegan", {}),
    ("msg_progan", {"augment": "exact", "augment_strength": 0.5}),
    ("msg_progan", {"micro_batch_size": 4, "batch_size": 16}),
  ],
)
def test_a_run_goes_on_in_folded_form(preset, changes, float64):
  """Two plain steps are one plain and one folded step, on two devices."""
  changes = {"batch_size": 8, "resolution": 16} | changes
  config = small_config(preset, **changes)
  plain, mixed = (
    Run(config, 2, jnp.float64, folding=folding) for folding in (False, True)
  )
  # Noise of weight 0 leaves 4x4 constant, and instance norm divides rounding.
  g_params, _ = random_arrays(plain.generator)
  g_params = jax.tree.map(lambda x: np.asarray(x, np.float64), g_params)
  plain.state = plain.state.replace(
    g_params=jax.device_put(g_params, sharding.replicated(plain.mesh))
  )
  mixed.state = jax.tree.map(jnp.copy, plain.train(1).state)
  plain.state, _ = plain.step(plain.state, plain.batch(1))
  mixed.state, _ = mixed.step(mixed.state, mixed.batch(1))
  assert relative_error(mixed.state, plain.state) < 1e-9


@pytest.mark.slow  # What float64 shows above, at the precision of training.
@pytest.mark.parametrize("num_devices", [2, 8])
def test_metrics_and_gradients_agree_in_float32(config, num_devices):
  one, many = (Run(config, n).train(1) for n in (1, num_devices))
  assert relative_error(many.metrics, one.metrics) < 1e-5
  # RMSprop's state after one step is 0.01 g^2: the gradients, without signs.
  for name in ("d_opt_state", "g_opt_state"):
    squares = [
      jnp.concatenate(
        [
          jnp.ravel(jnp.sqrt(x))
          for x in jax.tree.leaves(optax.tree.get(getattr(r.state, name), "nu"))
        ]
      )
      for r in (many, one)
    ]
    assert relative_error(*squares) < 1e-5, name


def test_gradients_are_all_reduced_once(config):
  """All-reduced bytes are those of both gradients and some scalars."""
  run = Run(config, 8)
  text = run.step.lower(run.state, run.batch()).compile().as_text()
  assert not re.search(r"all-gather|all-to-all|reduce-scatter", text)
  reduced = 0
  for line in text.splitlines():
    if not re.search(r"= .* all-reduce(-start)?\(", line):
      continue
    shapes = re.findall(r"f32\[([\d,]*)\]", line.split(" all-reduce")[0])
    reduced += sum(
      int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes
    )
  gradients = sum(
    x.size for x in jax.tree.leaves((run.state.g_params, run.state.d_params))
  )
  assert gradients <= reduced <= gradients + 64


def test_the_state_is_donated_and_the_step_traced_once(config):
  run = Run(config, 8)
  old = run.state
  run.train(3)
  assert run.traces == 1
  assert all(x.is_deleted() for x in jax.tree.leaves(old))


def test_a_lazy_penalty_comes_every_kth_step(config):
  config.penalty_interval = 2
  run = Run(config, 1)
  for step in range(4):
    run.train(1)
    values = [
      v for k, v in run.metrics.values.items() if "gradient_penalty" in k
    ]
    assert len(values) == 2
    assert all((value > 0) == (step % 2 == 0) for value in values)


def test_rmsprop_is_pytorchs():
  """Square average 0.99, epsilon outside the root; three steps by hand."""

  class Config:
    optimizer, learning_rate, beta2 = "rmsprop", 0.003, 0.99

  optimizer = train_state.make_optimizer(Config)
  params = expected = np.array([1.0, -2.0], np.float32)
  state = optimizer.init(params)
  average = 0.0
  for grads in np.array([[0.1, 0.0], [-3.0, 1e-6], [0.5, 2.0]], np.float32):
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    average = 0.99 * average + 0.01 * grads**2
    expected = expected - 0.003 * grads / (np.sqrt(average) + 1e-8)
  np.testing.assert_allclose(params, expected, rtol=1e-6)


def test_ema_decay_is_a_half_life(config):
  config.ema_kimg, config.batch_size = 2.0, 1000
  assert train_state.ema_decay(config) == pytest.approx(0.5**0.5)
  config.ema_decay = 0.999
  assert train_state.ema_decay(config) == 0.999
  config.ema_decay = config.ema_kimg = 0.0
  assert train_state.ema_decay(config) == 0.0
