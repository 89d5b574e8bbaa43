"""Generators as StableHLO, through jax.export, for CPUs, GPUs and TPUs."""

import jax
import jax.export
import jax.numpy as jnp

from msggan_jax.sharing.portable.functions import Function, Input

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(function: Function) -> bytes:
  """Return a function for `jax.export.deserialize`, of any batch size.

  Its results are a dictionary by the names of the outputs.
  """
  (batch,) = jax.export.symbolic_shape("batch")

  def abstract(each: Input) -> jax.ShapeDtypeStruct:
    shape = (batch, *each.shape) if each.batched else each.shape
    return jax.ShapeDtypeStruct(shape, jnp.dtype(each.dtype))

  def named(*arrays: jax.Array) -> dict[str, jax.Array]:
    return dict(zip(function.outputs, function.call(*arrays), strict=True))

  exported = jax.export.export(jax.jit(named), platforms=PLATFORMS)(
    *map(abstract, function.inputs)
  )
  return bytes(exported.serialize())
