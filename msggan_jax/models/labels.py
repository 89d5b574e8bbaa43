"""Class labels as a generator input (official code, mapping network)."""

import jax
import jax.numpy as jnp
from flax import nnx


def make_embedding(
  num_classes: int, latent_size: int, rngs: nnx.Rngs
) -> nnx.Param | None:
  """Draw one N(0, 1) vector per class; return None without classes."""
  if not num_classes:
    return None
  shape = (num_classes, latent_size)
  return nnx.Param(jax.random.normal(rngs.params(), shape))


def join(
  z: jax.Array, labels: jax.Array | None, embedding: nnx.Param | None
) -> jax.Array:
  """Concatenate each latent with the vector of its label.

  Args:
    z: Latents, (B, latent_size).
    labels: Class indices, (B,), integers; None without classes.
    embedding: (num_classes, latent_size); None without classes.

  Returns:
    (B, 2 latent_size); without classes z itself, (B, latent_size).
  """
  if embedding is None:
    return z
  return jnp.concatenate([z, embedding[...][labels]], axis=-1)
