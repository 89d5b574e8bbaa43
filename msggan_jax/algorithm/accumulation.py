"""G and D as the training step calls them, and a batch in parts.

`bind_generator` and `bind_discriminator` bind a network to its parameters on
this device, so that their gradient is summed over the devices once. `in_parts`
is gradient accumulation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from msggan_jax.algorithm.transformations import Transformation, transform
from msggan_jax.models.networks import Network, Tree
from msggan_jax.models.pyramid import Pyramid
from msggan_jax.runtime import sharding


class Given(NamedTuple):
  """What belongs to D's images, per example."""

  labels: jax.Array | None  # (B,); None: unconditional
  # The augmentation. Part of the critic, so penalties differentiate through it.
  transformation: Transformation | None = None


def in_parts(
  f: Callable[..., Any],
  part_size: int,
  *,
  out_axis: int = 0,
  has_means: bool = False,
) -> Callable[..., Any]:
  """Let a function work through a batch in parts, one part in memory at a time.

  Derivatives recompute its intermediate values. The parts' results are joined
  before anything is averaged, so a loss of all of them has its exact gradient.

  `f` maps trees of arrays, (part_size, ...), or None to per-example results
  with the examples along `out_axis`; with `has_means`, to a pair of them and
  means over the part. `part_size` divides the batch; 0: the whole batch.
  """

  def pair(*part):
    return f(*part) if has_means else (f(*part), ())

  def of_batch(*batch):
    size = len(jax.tree.leaves(batch)[0])
    if part_size in (0, size):
      return f(*batch)
    count = size // part_size
    parts = jax.tree.map(
      lambda x: x.reshape(count, part_size, *x.shape[1:]), batch
    )

    def body(total, part):
      examples, means = jax.checkpoint(pair)(*part)
      return jax.tree.map(jnp.add, total, means), examples

    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(pair, *first)[1]
    )
    total, examples = jax.lax.scan(body, zeros, parts)
    examples = jax.tree.map(lambda x: _join(x, out_axis), examples)
    means = jax.tree.map(lambda x: x / count, total)
    return (examples, means) if has_means else examples

  return of_batch


def bind_generator(network: Network, part_size: int) -> Callable:
  """Return (params, state, z, labels, noise) -> (pyramid, new state).

  Of this device's examples; `noise` is one key an example.
  """

  def generate(params: Tree, state: Tree, z, labels, noise):
    params = sharding.vary(params)

    def part(z, labels, noise):
      pyramid, new_state = network.apply_and_update(
        params, state, z, labels, noise=noise, batch_mean=sharding.batch_mean
      )
      # Parts average how far they move the state: w's average moves once.
      return pyramid, jax.tree.map(jnp.subtract, new_state, state)

    pyramid, moves = in_parts(part, part_size, has_means=True)(z, labels, noise)
    return pyramid, jax.tree.map(jnp.add, state, moves)

  return generate


def bind_discriminator(network: Network, part_size: int) -> Callable:
  """Return (params, state) -> critic, however often the critic is called.

  It maps this device's pyramid and what is `Given` with it to logits, (B,).
  """

  def with_params(params: Tree, state: Tree) -> Callable:
    params = sharding.vary(params)

    def critic(pyramid: Pyramid, given: Given) -> jax.Array:
      return network.apply(
        params,
        state,
        transform(pyramid, given.transformation),
        given.labels,
        batch_mean=sharding.batch_mean,
      )

    return in_parts(critic, part_size)

  return with_params


def _join(x: jax.Array, axis: int) -> jax.Array:
  """Join (parts, ..., part_size, ...) along the axis of the examples."""
  x = jnp.moveaxis(x, 0, axis)
  return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
