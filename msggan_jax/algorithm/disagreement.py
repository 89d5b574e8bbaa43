"""Trials: a term of G's loss that pulls each scale to the larger ones."""

import itertools

import jax
import jax.numpy as jnp

from msggan_jax.kernels import downsample, to_array
from msggan_jax.models.pyramid import Pyramid, make_pyramid, resolution_of


def disagreement(pyramid: Pyramid, target: str) -> jax.Array:
  """Sum each scale's mean squared distance to its target, (B,).

  `target` is `config.agreement_target`.
  """
  pyramid = tuple(map(to_array, pyramid))
  targets = make_pyramid(pyramid[-1], tuple(map(resolution_of, pyramid)))[:-1]
  if target == "next":
    targets = [
      downsample(larger, larger.shape[1] // image.shape[1])
      for image, larger in itertools.pairwise(pyramid)
    ]
  if target != "moving":
    targets = jax.lax.stop_gradient(targets)
  distances = [
    jnp.square(image - goal).mean(axis=(1, 2, 3))
    for image, goal in zip(pyramid[:-1], targets, strict=True)
  ]
  return sum(distances, jnp.zeros(len(pyramid[-1]), pyramid[-1].dtype))
