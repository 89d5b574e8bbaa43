"""Model FLOPs: the multiplications and additions of the mathematics.

Counted in a function's plain form, even where a platform has a cheaper one.
"""

import collections
import math
import re
from typing import NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval


class Kind(NamedTuple):
  """What products are counted together.

  Attributes:
    level: Resolution of their level, see `layers.level_scope`; None: of none.
    item_bytes: Bytes of an item of their result.
  """

  level: int | None
  item_bytes: int


class Count(NamedTuple):
  """A number of products.

  Attributes:
    flops: 2 for each multiplication with its addition.
    bytes_moved: Of their operands and results, once each, without padding.
  """

  flops: int
  bytes_moved: int


_Counts = dict[Kind, Count]


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
  return _total(count_products(f, *args))


def count_products(f, *args) -> _Counts:
  """Count a function's convolutions and matrix products by level and dtype.

  The arguments, and what counts, are as in `model_flops`.
  """
  jaxpr = jax.make_jaxpr(f)(*args).jaxpr
  used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(used, None)


def _total(counts: _Counts) -> int:
  return sum(count.flops for count in counts.values())


def _count(jaxpr: core.Jaxpr, level: int | None) -> _Counts:
  return _sum(_count_equation(equation, level) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn, level: int | None) -> _Counts:
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
    return max(inner, key=_total)
  times = 1
  if name == "scan":
    times = params["length"]
  elif name == "shard_map":
    times = params["mesh"].size
  return {
    kind: Count(times * count.flops, times * count.bytes_moved)
    for kind, count in _sum(inner).items()
  }


def _products(equation: core.JaxprEqn, level, terms: float) -> _Counts:
  """Return the count of an equation whose results each sum some products."""
  arrays = [variable.aval for variable in equation.invars + equation.outvars]
  out = arrays[-1]
  count = Count(
    round(2 * math.prod(out.shape) * terms),
    sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays),
  )
  return {Kind(level, out.dtype.itemsize): count}


def _sum(all_counts) -> _Counts:
  total = collections.defaultdict(lambda: Count(0, 0))
  for counts in all_counts:
    for kind, (flops, moved) in counts.items():
      before = total[kind]
      total[kind] = Count(before.flops + flops, before.bytes_moved + moved)
  return dict(total)
