"""Schedules: fields that move from one value to another during the burn-in.

Pure functions of the step, so a resumed run has the same values.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.algorithm import growth

SAME = "same"  # an end value: the field does not change


class Now(NamedTuple):
  """The scheduled fields at a step; those that move are arrays, ()."""

  learning_rate: float | jax.Array
  beta2: float | jax.Array
  r1_gamma: float | jax.Array
  r2_gamma: float | jax.Array
  ema_kimg: float | jax.Array
  augment_strength: float | jax.Array

  def moving(self) -> dict[str, jax.Array]:
    """Return the values that move."""
    values = self._asdict().items()
    return {name: x for name, x in values if isinstance(x, jax.Array)}


def at(config: ConfigDict, step: jax.Array) -> Now:
  """Return the values at a step, () int32.

  A field moves to its end value, unless that is `SAME`, during the burn-in,
  along half a cosine (Huang et al. 2024, R3GAN), and stays there.
  """
  starts = [config[name] for name in Now._fields]
  if not config.burn_in_kimg:
    return Now(*starts)
  burn_in_steps = 1000 * config.burn_in_kimg / config.batch_size
  done = step.astype(jnp.result_type(float)) / burn_in_steps
  stage = growth.phases_of(config, config.resolution)[0]
  if first_step := stage.first_step:  # earlier stages had other batches
    done += stage.first_image / (1000 * config.burn_in_kimg)
    done -= first_step / burn_in_steps
  remaining = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1.0)))
  ends = [config[f"{name}_end"] for name in Now._fields]
  return Now(
    *(
      start if end == SAME else end + remaining * (start - end)
      for start, end in zip(starts, ends, strict=True)
    )
  )


def check(config: ConfigDict) -> None:
  """Raise ValueError for end values without a burn-in."""
  for name in Now._fields:
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
