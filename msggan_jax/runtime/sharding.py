"""Devices: the only file that names a mesh axis.

One axis, `data`: the batch is sharded along it, everything else is replicated.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
  """Make the mesh of the devices, by default all devices of all processes.

  Each process owns a contiguous part of the axis, and so of the batch.
  """
  devices = sorted(
    devices or jax.devices(), key=lambda d: (d.process_index, d.id)
  )
  return Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Return the sharding of the training state."""
  return NamedSharding(mesh, PartitionSpec())


def along_batch(mesh: Mesh) -> NamedSharding:
  """Return the sharding of a batch."""
  return NamedSharding(mesh, PartitionSpec(_AXIS))


def abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
  """Return the shapes and dtypes of a tree's arrays, with one sharding."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def put_batch(
  mesh: Mesh, local_batch: dict[str, np.ndarray]
) -> dict[str, jax.Array]:
  """Make the global batch, (B, ...), from the processes' parts of it."""
  return {
    name: jax.make_array_from_process_local_data(along_batch(mesh), array)
    for name, array in local_batch.items()
  }


def any_process(mesh: Mesh, flag: bool) -> jax.Array:
  """Return whether a process's flag is set, without waiting for the answer.

  All processes call it, in the same order among their steps.
  """
  flags = {"flag": np.full(len(mesh.local_devices), flag)}
  return _any_on(mesh)(put_batch(mesh, flags)["flag"])


@functools.cache
def _any_on(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
  return jax.jit(jnp.any, out_shardings=replicated(mesh))


def local_copy(tree: Any) -> Any:
  """Return the copy of replicated arrays on this process's first device."""
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


def shard_step(step: Callable, mesh: Mesh) -> Callable:
  """Return a training step of the global batch; its state is donated.

  `step`, (state, batch) -> (state, metrics), gets the whole state and one
  device's part of the batch, and uses the collectives below.
  """
  sharded = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(_AXIS)),
    out_specs=PartitionSpec(),
  )
  return jax.jit(sharded, donate_argnums=0)


def global_mean(x: jax.Array) -> jax.Array:
  """Average over the global batch, from one device's part of it."""
  return jax.lax.pmean(jnp.mean(x), _AXIS)


def batch_mean(x: jax.Array) -> jax.Array:
  """Average over the global batch only: (B, ...) to (1, ...)."""
  flat = x.reshape(x.shape[0], -1)
  means = jax.vmap(global_mean, in_axes=1)(flat)
  return means.reshape(1, *x.shape[1:])


@jax.custom_vjp
def vary(params: Any) -> Any:
  """Mark replicated parameters as varying over devices, before first use.

  Their gradient is the sum over devices: one cast means one all-reduce, however
  often the parameters are used.
  """
  return jax.tree.map(
    lambda x: jax.lax.pcast(x, (_AXIS,), to="varying"), params
  )


def _sum_gradients(_, gradients: Any) -> tuple[Any]:
  def packed(gradients):
    # On CPUs an all-reduce of many arrays takes several times as long.
    vector, unravel = ravel_pytree(gradients)
    return unravel(jax.lax.psum(vector, _AXIS))

  return (
    jax.lax.platform_dependent(
      gradients,
      cpu=packed,
      default=functools.partial(jax.lax.psum, axis_name=_AXIS),
    ),
  )


vary.defvjp(lambda params: (vary(params), None), _sum_gradients)


def example_keys(key: jax.Array, device_batch_size: int) -> jax.Array:
  """Return the keys, (device_batch_size,), of this device's examples.

  An example's key depends on its place in the global batch, so numbers drawn
  from it do not depend on the number of devices.
  """
  first = jax.lax.axis_index(_AXIS) * device_batch_size
  ids = first + jnp.arange(device_batch_size, dtype=jnp.int32)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
