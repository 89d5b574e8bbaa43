"""Freeze the discriminator's first blocks (FreezeD, Mo et al. 2020)."""

from typing import Any

import jax
from ml_collections import ConfigDict

from msggan_jax.models.networks import Tree
from msggan_jax.models.pyramid import resolutions_up_to


def check(config: ConfigDict) -> None:
  """Raise ValueError if D has fewer than `freeze_d` blocks."""
  blocks = len(resolutions_up_to(config.resolution))
  if config.freeze_d > blocks:
    raise ValueError(
      f"config.freeze_d is {config.freeze_d}, but D at {config.resolution} "
      f"pixels has {blocks} blocks; choose 0 to {blocks}"
    )


def names(config: Any) -> tuple[str, ...]:
  """Return the frozen modules of D, from the image side."""
  first = resolutions_up_to(config.resolution)[::-1][: config.freeze_d]
  if not first:
    return ()
  return (
    f"from_rgb_{config.resolution}x{config.resolution}",
    *(f"block_{r}x{r}" for r in first),
  )


def freeze(config: Any, d_params: Tree) -> Tree:
  """Cut the derivatives of the frozen modules.

  Their gradients are exactly 0, and so are the updates of RMSprop and Adam,
  whose averages start at 0.
  """
  frozen = names(config)
  return {
    name: jax.lax.stop_gradient(module) if name in frozen else module
    for name, module in d_params.items()
  }
