"""All random numbers of a step, drawn per example of the global batch.

So any number of devices and processes computes the same training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.models.layers import normalize_latents
from msggan_jax.runtime import sharding

# More steps than runs have: after a rollback no step reuses another's numbers.
_STEPS_STRIDE = 1_000_000_007
_DATA_SEED_STRIDE = 1_000_003
_AUGMENT = 0x61756721  # beyond the keys of a split


class StepKeys(NamedTuple):
  """Keys of a step; the last three are of the augmentation."""

  d_fakes: jax.Array
  g_fakes: jax.Array
  epsilon: jax.Array
  mirror: jax.Array
  d_augment: jax.Array
  g_augment: jax.Array
  held_out: jax.Array


def step_keys(seed: int, state: TrainState) -> StepKeys:
  """Return the keys of the step that starts from a state."""
  stream = state.step + _STEPS_STRIDE * state.rollbacks  # int32 may wrap
  key = jax.random.fold_in(jax.random.key(seed), stream)
  augment_key = jax.random.fold_in(key, _AUGMENT)
  return StepKeys(*jax.random.split(key, 4), *jax.random.split(augment_key, 3))


def data_seed(seed: int, rollbacks: int) -> int:
  """Return the seed of the data's order after a number of rollbacks."""
  return (seed + _DATA_SEED_STRIDE * rollbacks) % 2**32


def draw_inputs(
  key: jax.Array, size: int, latent_size: int, *, normalize: bool
) -> tuple[jax.Array, jax.Array]:
  """Draw this device's z, (size, latent_size), and noise keys, (size,)."""
  z_key, noise_key = jax.random.split(key)
  keys = sharding.example_keys(z_key, size)
  z = jax.vmap(lambda k: jax.random.normal(k, (latent_size,)))(keys)
  z = normalize_latents(z) if normalize else z
  return z, sharding.example_keys(noise_key, size)


def draw_epsilon(key: jax.Array, size: int) -> jax.Array:
  """Draw the gradient penalty's epsilon, (size,), uniform in [0, 1]."""
  return jax.vmap(jax.random.uniform)(sharding.example_keys(key, size))


def random_mirror(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirror each image, (B, H, W, C), left to right with probability 1/2."""
  keys = sharding.example_keys(key, images.shape[0])
  mirrored = jax.vmap(jax.random.bernoulli)(keys)[:, None, None, None]
  return jnp.where(mirrored, images[:, :, ::-1], images)
