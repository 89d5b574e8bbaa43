"""Class labels in the generator's input (official code, mapping network)."""

import jax
import jax.numpy as jnp
from flax import nnx


def make_embedding(
  num_classes: int, latent_size: int, rngs: nnx.Rngs
) -> nnx.Param | None:
  """Draw one vector of N(0, 1) a class; None without classes."""
  if not num_classes:
    return None
  shape = (num_classes, latent_size)
  return nnx.Param(jax.random.normal(rngs.params(), shape))


def join(
  z: jax.Array, labels: jax.Array | None, embedding: nnx.Param | None
) -> jax.Array:
  """Append each label's vector to its latent.

  Args:
    z: Latents, (B, latent_size).
    labels: Classes, (B,), integers; None without classes.
    embedding: (num_classes, latent_size), or None.

  Returns:
    (B, 2 latent_size), or z itself without classes.
  """
  if embedding is None:
    return z
  return jnp.concatenate([z, embedding[...][labels]], axis=-1)
