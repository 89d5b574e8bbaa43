"""Schedules: fields that move from one value to another during the burn-in.

Pure functions of the step, so a resumed run has the same values.
"""

import types
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

SAME = "same"  # an end value: the field does not change
SCHEDULED = (
  "learning_rate",
  "beta2",
  "r1_gamma",
  "r2_gamma",
  "ema_kimg",
  "augment_strength",
)


def at(config: ConfigDict, step: jax.Array) -> Any:
  """Return the configuration at a step, () int32.

  A field of `SCHEDULED` moves from its own value to `<field>_end` over
  `burn_in_kimg`, along half a cosine (Huang et al. 2024, R3GAN), and stays
  there.

  Returns:
    `config` itself if nothing is scheduled; else its fields as attributes, the
    scheduled ones as traced scalars.
  """
  values = scheduled_values(config, step)
  if not values:
    return config
  return types.SimpleNamespace(**dict(config.items()) | values)


def scheduled_values(
  config: ConfigDict, step: jax.Array
) -> dict[str, jax.Array]:
  """Return the values of the scheduled fields at a step, by name."""
  moving = [name for name in SCHEDULED if config[f"{name}_end"] != SAME]
  if not config.burn_in_kimg or not moving:
    return {}
  burn_in_steps = 1000 * config.burn_in_kimg / config.batch_size
  done = step.astype(jnp.result_type(float)) / burn_in_steps
  remaining = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1.0)))
  return {
    name: end + remaining * (config[name] - end)
    for name, end in ((name, config[f"{name}_end"]) for name in moving)
  }


def check(config: ConfigDict) -> None:
  """Raise ValueError for end values without a burn-in."""
  for name in SCHEDULED:
    end = config[f"{name}_end"]
    if end == SAME:
      continue
    if not config.burn_in_kimg:
      raise ValueError(
        f"config.{name}_end is {end}, but config.burn_in_kimg is 0; choose a "
        f"burn-in above 0, or {SAME}"
      )
    if name == "ema_kimg" and config.ema_decay:
      raise ValueError(
        f"config.ema_kimg_end is {end}, but config.ema_decay "
        f"{config.ema_decay} sets a constant decay; choose ema_decay 0"
      )
