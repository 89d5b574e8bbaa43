"""Model FLOPs: the multiplications and additions of the mathematics.

Counted in a function's plain form, even where a platform has a cheaper one.
"""

import collections
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval


class Count(NamedTuple):
  """Some products."""

  flops: int  # 2 for each multiplication with its addition
  bytes_moved: int  # operands and results, once each, without padding


# By resolution of the level (see `multi_scale.level_scope`; None: of none),
# bytes of an operand's item and precision, such as "highest".
Products = dict[tuple[int | None, int, str], Count]


def model_flops(f, *args) -> int:
  """Count the FLOPs of a function of arrays, or of shapes, over all devices."""
  return total(count_products(f, *args))


def count_products(f, *args) -> Products:
  """Count a function's convolutions and matrix products, over all devices.

  Padding counts like image. Of alternatives, such as platform forms or steps
  with and without a lazy penalty, the most expensive counts. Dead code does not
  count.
  """
  jaxpr = jax.make_jaxpr(f)(*args).jaxpr
  used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(used, None)


def total(products: Products) -> int:
  """Return the FLOPs of all products."""
  return sum(count.flops for count in products.values())


def _count(jaxpr: core.Jaxpr, level: int | None) -> Products:
  return _sum(_count_equation(equation, level) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn, level: int | None) -> Products:
  name, params = equation.primitive.name, equation.params
  scope = re.search(r"level_(\d+)", str(equation.source_info.name_stack))
  level = int(scope[1]) if scope else level
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    lhs = equation.invars[0].aval.shape
    terms = math.prod(lhs[axis] for axis in contracted)
    return _products(equation, level, terms)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
    # Zeros between pixels are not multiplied.
    terms = (
      math.prod(kernel) // out_features / math.prod(params["lhs_dilation"])
    )
    return _products(equation, level, terms)
  inner = [_count(sub, level) for sub in core.jaxprs_in_params(params)]
  if name == "cond":
    return max(inner, key=total)
  times = params["length"] if name == "scan" else 1
  times = params["mesh"].size if name == "shard_map" else times
  return {
    kind: Count(times * count.flops, times * count.bytes_moved)
    for kind, count in _sum(inner).items()
  }


def _products(equation: core.JaxprEqn, level, terms: float) -> Products:
  """Return the count of an equation whose results each sum some products."""
  arrays = [variable.aval for variable in equation.invars + equation.outvars]
  count = Count(
    round(2 * math.prod(arrays[-1].shape) * terms),
    sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays),
  )
  stated = equation.params["precision"]  # of both operands
  precision = stated[0].name.lower() if stated else "default"
  return {(level, arrays[0].dtype.itemsize, precision): count}


def _sum(parts: Iterable[Products]) -> Products:
  sums = collections.defaultdict(lambda: Count(0, 0))
  for products in parts:
    for kind, (flops, moved) in products.items():
      before = sums[kind]
      sums[kind] = Count(before.flops + flops, before.bytes_moved + moved)
  return dict(sums)
