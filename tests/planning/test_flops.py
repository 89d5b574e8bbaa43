"""Model FLOPs against counts by hand."""

import jax
import jax.numpy as jnp

from msggan_jax.algorithm import program
from msggan_jax.models.convolution import convolve, convolve_plain
from msggan_jax.planning import flops
from msggan_jax.runtime import sharding
from tests.algorithm.test_variants import small_config

X = jax.ShapeDtypeStruct((2, 32, 32, 64), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32)
FORWARD = 2 * (2 * 32 * 32 * 128) * (9 * 64)


def test_a_convolution_and_its_gradients():
  assert flops.model_flops(convolve_plain, X, KERNEL) == FORWARD
  # Winograd's form on CPUs does not change the model's FLOPs.
  assert flops.model_flops(convolve, X, KERNEL) == FORWARD
  gradients = jax.grad(lambda *a: jnp.sum(jnp.sin(convolve(*a))), (0, 1))
  assert flops.model_flops(gradients, X, KERNEL) == 3 * FORWARD


def test_loops_products_and_what_is_not_used():
  a = jax.ShapeDtypeStruct((5, 7), jnp.float32)

  def f(a):
    unused = a @ a.T
    del unused
    return jax.lax.fori_loop(0, 3, lambda _, x: x + a.T @ a, jnp.zeros((7, 7)))

  assert flops.model_flops(f, a) == 3 * 2 * 7 * 7 * 5


def test_a_step_costs_the_same_on_any_number_of_devices():
  config = small_config("msg_progan", batch_size=32)
  counts = []
  for n in (1, 8):
    mesh = sharding.make_mesh(jax.devices()[:n])
    run = program.make_program(config, mesh)
    step = flops.model_flops(run.step, run.abstract_state, run.abstract_batch)
    counts.append(step)
  assert counts[0] == counts[1] > 0
