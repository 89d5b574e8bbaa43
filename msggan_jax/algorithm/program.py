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
from msggan_jax.algorithm import augment, growth, train_state, train_step
from msggan_jax.algorithm.train_state import TrainState, step_tensor_names
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
  stage: ConfigDict  # of the step; of a run that does not grow its own
  dtype: str  # of the data set's images

  def at(self, resolution: int) -> "Program":
    """Return the program of a stage: the same state, another step."""
    if resolution not in self._stages:
      stage = growth.stage(self.config, resolution)
      self._stages[resolution] = dataclasses.replace(self, stage=stage)
    return self._stages[resolution]

  @functools.cached_property
  def _stages(self) -> dict[int, "Program"]:
    return {self.stage.resolution: self}

  @functools.cached_property
  def stage_generator(self) -> Network:
    """Return the generator of the stage."""
    if self.stage is self.config:
      return self.generator
    return networks.make_generator(self.stage)

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
    step = train_step.TrainStep(
      self.stage,
      networks.make_generator(self.stage, forms),
      networks.make_discriminator(self.stage, forms),
      self.optimizer,
      self.stage.resolution / self.config.resolution,
    )
    if self.stage.grow_from:
      step = of_stage(self.stage, step, self.optimizer)
    return sharding.shard_step(step, self.mesh)

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
    size = self.stage.batch_size
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


def of_stage(
  config: ConfigDict,
  take_step: Callable,
  optimizer: optax.GradientTransformationExtraArgs,
) -> Callable:
  """Let a stage's step work on the state of all levels.

  Levels above the stage stay as they are. Where a fade begins or ends, both
  optimizers start afresh, as in the authors' code.
  """
  own = growth.phases_of(config, config.resolution)
  first_steps = [phase.first_step for phase in own]

  def step(whole: TrainState, batch: train_step.Batch):
    before = growth.part_of(whole, config.resolution)
    alpha = {"alpha": growth.alpha(config, whole.step)}
    begins = jnp.isin(whole.step, jnp.array(first_steps))

    def afresh(params, opt_state):
      new = optimizer.init(params)
      return jax.tree.map(lambda a, b: jnp.where(begins, a, b), new, opt_state)

    part, metrics = take_step(
      before.replace(
        g_state=before.g_state | alpha,
        d_state=before.d_state | alpha,
        g_opt_state=afresh(before.g_params, before.g_opt_state),
        d_opt_state=afresh(before.d_params, before.d_opt_state),
      ),
      batch,
    )
    ours, names = (
      step_tensor_names(x.d_params, x.g_params) for x in (before, whole)
    )
    places = jnp.array([names.index(name) for name in ours])
    bad = metrics.first_bad
    return growth.put_back(whole, part), metrics.replace(
      values=metrics.values | alpha,
      counts=metrics.counts | {"alpha": jnp.int32(1)},
      first_bad=jnp.where(bad < 0, bad, places[bad]),
    )

  return step


def make_program(config: ConfigDict, mesh: Mesh) -> Program:
  """Build a configuration's program without allocating arrays.

  Of a run that grows its step is the last stage's. Values are float32 until the
  set is known.
  """
  return Program(
    config,
    mesh,
    networks.make_generator(config),
    networks.make_discriminator(config),
    train_state.make_optimizer(config),
    growth.stage(config, config.resolution),
    "float32" if config.dataset.get("range") else "uint8",
  )
