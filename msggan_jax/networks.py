"""The networks, made from a configuration and used as pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from msggan_jax.configuration import connected_scales
from msggan_jax.models import discriminator, progan


@dataclasses.dataclass(frozen=True)
class Network:
  """A network's structure without its arrays."""

  graphdef: nnx.GraphDef
  create: Callable[[jax.Array], nnx.Module]

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Draw initial parameters: a nested dict of arrays."""
    return nnx.to_pure_dict(nnx.state(self.create(key), nnx.Param))

  def apply(self, params: dict[str, Any], *args, **kwargs) -> Any:
    """Call the network with these parameters."""
    return nnx.merge(self.graphdef, params)(*args, **kwargs)

  @functools.cached_property
  def jitted_apply(self) -> Callable:
    """Compile `apply`, once for all who use this network."""
    return jax.jit(self.apply)

  def abstract_params(self) -> dict[str, Any]:
    """Return the shapes and types of the parameters."""
    return jax.eval_shape(self.init, jax.random.key(0))


def make_generator(config: ConfigDict) -> Network:
  """Return the generator that a configuration describes."""
  return _network(
    lambda rngs: progan.Generator(
      resolution=config.resolution,
      scales=connected_scales(config),
      channels=config.channels,
      latent_size=config.latent_size,
      base_channels=config.base_channels,
      max_channels=config.max_channels,
      dtype=_activation_dtype(config),
      rngs=rngs,
    )
  )


def make_discriminator(config: ConfigDict) -> Network:
  """Return the discriminator that a configuration describes."""
  return _network(
    lambda rngs: discriminator.Discriminator(
      resolution=config.resolution,
      scales=connected_scales(config),
      channels=config.channels,
      base_channels=config.base_channels,
      max_channels=config.max_channels,
      combine=config.combine,
      stddev_group=config.stddev_group,
      stddev_placement=config.stddev_placement,
      stddev_grouping=config.stddev_grouping,
      dtype=_activation_dtype(config),
      rngs=rngs,
    )
  )


def _network(create: Callable[[nnx.Rngs], nnx.Module]) -> Network:
  def create_from_key(key):
    return create(nnx.Rngs(params=key))

  abstract = nnx.eval_shape(create_from_key, jax.random.key(0))
  return Network(nnx.split(abstract, nnx.Param)[0], create_from_key)


def _activation_dtype(config: ConfigDict) -> jnp.dtype | None:
  return jnp.bfloat16 if config.precision == "bfloat16" else None
