"""Random networks in a run's folder, written without training."""

import jax
import numpy as np

from msggan_jax.checkpoints import checkpoint
from msggan_jax.config import saved
from msggan_jax.models import networks
from tests.models.test_networks import random_arrays


def write_run(config, workdir, *steps):
  """Write a run's configuration and checkpoints of its networks; return it."""
  ema_params, ema_state = random_arrays(networks.make_generator(config))
  d_params, d_state = random_arrays(networks.make_discriminator(config), 1)
  trees = {
    **{"ema_params": ema_params, "ema_state": ema_state},
    **{"d_params": d_params, "d_state": d_state},
  }
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    for step in steps:
      checkpoints.save(step, jax.device_put(trees | {"step": np.int32(step)}))
  saved.save_config(config, workdir)
  return workdir
