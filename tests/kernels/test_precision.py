"""Every product and every long sum of the training step, read from its jaxpr.

The jaxpr holds the forms of all platforms and all derivatives.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from msggan_jax import kernels
from msggan_jax.algorithm import program
from msggan_jax.runtime import sharding
from tests.conftest import load_config

HIGHEST, DEFAULT = jax.lax.Precision.HIGHEST, jax.lax.Precision.DEFAULT

# Together they have every kind of layer.
VARIANTS = {
  "progan": {"combine": "lin_cat", "spectral_norm": True, "num_classes": 3},
  "stylegan": {
    "model": "stylegan",
    "combine": "cat_lin",
    "penalty": "r1",
    "penalty_scales": "sum",
    "augment": "ada",
  },
}


@functools.cache
def step_equations(variant, precision):
  """Return all equations of a small step, inner ones included."""
  config = load_config("default")
  config.resolution, config.batch_size = 8, 8
  config.latent_size = config.max_channels = 8
  config.w_size = config.mapping_size = 8
  config.mapping_layers = 2
  config.precision = precision
  for name, value in VARIANTS.get(variant, {}).items():
    config[name] = value
  run = program.make_program(config, sharding.make_mesh(jax.devices()[:2]))
  folded = variant == "folded"
  step = run._step(kernels.FOLDED if folded else kernels.BY_PLATFORM)
  traced = step.trace(run.abstract_state, run.abstract_batch)
  return list(equations(traced.jaxpr.jaxpr))


def equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for inner in core.jaxprs_in_params(equation.params):
      yield from equations(inner)


def kind_of(equation):
  """Return "matrix", or the side of a convolution's kernel.

  A derivative may have the kernel as any of its three arrays. It is the
  smallest, but for the last 4x4 convolution, whose output is one pixel.
  """
  if equation.primitive.name == "dot_general":
    return "matrix"
  numbers = equation.params["dimension_numbers"]
  lhs, rhs = (x.aval.shape for x in equation.invars)
  (out,) = (x.aval.shape for x in equation.outvars)
  return min(
    shape[spec[2]] for shape, spec in zip((lhs, rhs, out), numbers, strict=True)
  )


def products(variant, precision):
  """Count the step's products by kind, dtype and precision."""
  counts = collections.Counter()
  for equation in step_equations(variant, precision):
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      dtypes = {x.aval.dtype for x in equation.invars}
      stated = set(equation.params["precision"] or (DEFAULT,))
      assert len(dtypes) == len(stated) == 1, equation
      counts[kind_of(equation), dtypes.pop().name, stated.pop()] += 1
  return counts


@pytest.mark.parametrize(
  ("variant", "precision"),
  [
    ("progan", "float32"),
    ("stylegan", "float32_fast"),
    ("progan", "bfloat16"),
    ("stylegan", "bfloat16"),
  ],
)
def test_the_precision_of_every_product(variant, precision):
  found = products(variant, precision)
  # 4: on TPUs, resampling and a 3x3 kernel are one 4x4 kernel.
  assert {kind for kind, _, _ in found} == {"matrix", 1, 3, 4}
  for kind, dtype, stated in found:
    expected = {("float32", HIGHEST)}
    if kind in (3, 4):
      expected = {
        "float32": {("float32", HIGHEST)},
        "float32_fast": {("float32", DEFAULT)},
        "bfloat16": {("bfloat16", DEFAULT)},
      }[precision]
    elif kind == 1 and variant == "stylegan" and precision == "bfloat16":
      expected |= {("bfloat16", DEFAULT)}  # cat_lin, a part of the trunk
    assert (dtype, stated) in expected, (kind, found)


def test_products_of_float32_in_a_folded_step():
  """bfloat16 is for the 3x3 kernels, for moves of pixels and their sums."""
  for equation in step_equations("folded", "bfloat16"):
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      if all(x.aval.dtype == jnp.float32 for x in equation.invars):
        assert set(equation.params["precision"]) == {HIGHEST}, equation


@pytest.mark.parametrize("variant", [*VARIANTS, "folded"])
def test_gradients_are_summed_in_float32(variant):
  for equation in step_equations(variant, "bfloat16"):
    name = equation.primitive.name
    first = equation.invars[0].aval if equation.invars else None
    if getattr(first, "dtype", None) != jnp.bfloat16:
      continue
    assert name not in ("psum", "psum_invariant", "cumsum"), equation
    if name == "reduce_sum":
      terms = first.size // equation.outvars[0].aval.size
      assert terms <= 4, equation
