"""Model FLOPs: the multiplications and additions of the mathematics.

Counted in a function's plain form, even where a platform has a cheaper one.
"""

import math

import jax
from jax.extend import core
from jax.interpreters import partial_eval


def model_flops(f, *args) -> int:
  """Count the FLOPs of a function's convolutions and matrix products.

  Padding counts like image. Of alternatives, such as platform forms or steps
  with and without a lazy penalty, the most expensive counts. Dead code does not
  count.

  Args:
    f: The function.
    *args: Its arguments, arrays or their shapes.

  Returns:
    2 for each multiplication with its addition, over all devices.
  """
  jaxpr = jax.make_jaxpr(f)(*args).jaxpr
  used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(used)


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    lhs = equation.invars[0].aval.shape
    terms = math.prod(lhs[axis] for axis in contracted)
    return 2 * math.prod(equation.outvars[0].aval.shape) * terms
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
    # Zeros between pixels are not multiplied.
    terms = (
      math.prod(kernel) // out_features / math.prod(params["lhs_dilation"])
    )
    return round(2 * math.prod(equation.outvars[0].aval.shape) * terms)
  inner = [_count(sub) for sub in core.jaxprs_in_params(params)]
  if name == "cond":
    return max(inner)
  times = 1
  if name == "scan":
    times = params["length"]
  elif name == "shard_map":
    times = params["mesh"].size
  return times * sum(inner)
