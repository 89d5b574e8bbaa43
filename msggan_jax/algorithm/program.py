"""Networks, state and compiled step of a configuration on a mesh.

Training runs it, the benchmark times it, the plan only compiles it.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from msggan_jax import kernels
from msggan_jax.algorithm import augment, train_state, train_step
from msggan_jax.algorithm.train_state import TrainState
from msggan_jax.models import base_grid, networks
from msggan_jax.models.networks import Network
from msggan_jax.runtime import sharding

# Steps that are dispatched and unfinished; the batch of each is on the devices.
RUN_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Program:
  """The parts of a training run that do not depend on data or a workdir."""

  config: ConfigDict
  mesh: Mesh  # `plan` uses devices that need not exist
  generator: Network  # z and label -> pyramid
  discriminator: Network  # pyramid and label -> logits
  optimizer: optax.GradientTransformationExtraArgs
  dtype: str = "uint8"  # of the data set's images

  @functools.cached_property
  def step(self) -> Callable:
    """Return the jitted step, (state, batch) -> (state, metrics).

    The state is donated. `kernels.for_training` chooses the networks' kernels.
    """
    platform = self.mesh.devices.flat[0].platform
    return self._step(kernels.for_training(platform))

  @functools.cached_property
  def plain_step(self) -> Callable:
    """Return the step on plain arrays, whose FLOPs are the model's."""
    return self._step(kernels.BY_PLATFORM)

  def _step(self, forms: kernels.Kernels) -> Callable:
    return sharding.shard_step(
      train_step.TrainStep(
        self.config,
        networks.make_generator(self.config, forms),
        networks.make_discriminator(self.config, forms),
        self.optimizer,
      ),
      self.mesh,
    )

  def compile(self) -> tuple[Callable, float]:
    """Return the compiled step and the seconds it took."""
    began = time.monotonic()
    lowered = self.step.lower(self.abstract_state, self.abstract_batch)
    return lowered.compile(), time.monotonic() - began

  def assemble(self, g: tuple, d: tuple) -> TrainState:
    """Make the state at step 0 from (params, state) of each network."""
    return train_state.assemble(self.config, g, d, self.optimizer)

  @property
  def abstract_state(self) -> TrainState:
    """Return the state's shapes, dtypes and shardings."""
    return sharding.abstract(
      jax.eval_shape(self.create_state), sharding.replicated(self.mesh)
    )

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes, dtypes and shardings of a global batch."""
    config = self.config
    size = config.batch_size
    shape = (size, *base_grid.size_of(config), config.channels)
    batch = {
      "image": jax.ShapeDtypeStruct(shape, self.dtype),
      "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
    if augment.needs_holdout(config):
      batch |= {f"holdout_{name}": part for name, part in batch.items()}
    return sharding.abstract(batch, sharding.along_batch(self.mesh))

  @functools.cached_property
  def create_state(self) -> Callable[[], TrainState]:
    """Return the function that draws the state at step 0, replicated."""

    def create():
      g_key, d_key = jax.random.split(jax.random.key(self.config.seed))
      return self.assemble(
        self.generator.init(g_key), self.discriminator.init(d_key)
      )

    return jax.jit(
      create,
      out_shardings=sharding.replicated(self.mesh),
      # It runs once, so compile time matters more than run time.
      compiler_options={"xla_backend_optimization_level": 0},
    )


def make_program(config: ConfigDict, mesh: Mesh) -> Program:
  """Build a configuration's program without allocating arrays."""
  return Program(
    config,
    mesh,
    networks.make_generator(config),
    networks.make_discriminator(config),
    train_state.make_optimizer(config),
  )
