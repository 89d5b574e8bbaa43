"""The networks, made from a configuration and used as pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from msggan_jax.models import discriminator, progan, stylegan
from msggan_jax.models.layers import Layer
from msggan_jax.models.pyramid import connected_scales
from msggan_jax.models.stddev import MinibatchStddev

Tree = dict[str, Any]  # nested, of arrays


@dataclasses.dataclass(frozen=True)
class Network:
  """A network's structure without its arrays.

  The arrays are two trees: what is learned (`params`) and what is carried
  along (`state`: noise maps, the average of w, spectral norm's vectors; empty
  for MSG-ProGAN as the paper has it).
  """

  graphdef: nnx.GraphDef
  create: Callable[[jax.Array], nnx.Module]

  def init(self, key: jax.Array) -> tuple[Tree, Tree]:
    """Draw the initial parameters and state."""
    _, params, state = nnx.split(self.create(key), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

  def apply(
    self, params: Tree, state: Tree, *args, method: str = "__call__", **kwargs
  ) -> Any:
    """Call the network, or another of its methods, with these arrays."""
    module = nnx.merge(self.graphdef, params, state)
    return getattr(module, method)(*args, **kwargs)

  def apply_and_update(
    self, params: Tree, state: Tree, *args, **kwargs
  ) -> tuple[Any, Tree]:
    """Call the network; also return its state as the call has left it."""
    module = nnx.merge(self.graphdef, params, state)
    return module(*args, **kwargs), _state_of(module)

  def power_iterate(self, params: Tree, state: Tree) -> Tree:
    """Return the state after one power iteration in every spectral norm."""
    module = nnx.merge(self.graphdef, params, state)
    for _, layer in nnx.iter_modules(module):
      if isinstance(layer, Layer):
        layer.power_iterate()
    return _state_of(module)

  @functools.cached_property
  def jitted_apply(self) -> Callable:
    """Compile `apply`, once for all who use this network."""
    return jax.jit(self.apply, static_argnames="method")

  def abstract_params(self) -> Tree:
    """Return the shapes and types of the parameters."""
    return jax.eval_shape(self.init, jax.random.key(0))[0]

  def abstract_state(self) -> Tree:
    """Return the shapes and types of the state."""
    return jax.eval_shape(self.init, jax.random.key(0))[1]


def make_generator(config: ConfigDict) -> Network:
  """Return the generator that a configuration describes."""
  options = _common_options(config) | {"latent_size": config.latent_size}
  if config.model == "stylegan":
    create = functools.partial(
      stylegan.Generator,
      w_size=config.w_size,
      mapping_size=config.mapping_size,
      mapping_layers=config.mapping_layers,
      **options,
    )
  else:
    create = functools.partial(
      progan.Generator,
      pixel_norm=config.pixel_norm,
      equalized=config.equalized,
      spectral_norm=config.spectral_norm,
      normalize_latents=config.normalize_latents,
      output_activation=config.output_activation,
      **options,
    )
  return _network(create)


def make_discriminator(config: ConfigDict) -> Network:
  """Return the discriminator that a configuration describes."""
  return _network(
    functools.partial(
      discriminator.Discriminator,
      combine=config.combine,
      stddev=MinibatchStddev(
        config.stddev_group, config.stddev_grouping, config.stddev_spatial
      ),
      stddev_placement=config.stddev_placement,
      stylegan=config.model == "stylegan",
      equalized=config.equalized,
      spectral_norm=config.spectral_norm,
      **_common_options(config),
    )
  )


def _common_options(config: ConfigDict) -> dict[str, Any]:
  # "auto" is resolved before training; without derivatives there is no remat.
  remat_from = 0 if config.remat_from == "auto" else config.remat_from
  return {
    "resolution": config.resolution,
    "scales": connected_scales(config),
    "channels": config.channels,
    "num_classes": config.num_classes,
    "base_channels": config.base_channels,
    "max_channels": config.max_channels,
    "linear_gain": config.linear_gain,
    "remat_from": remat_from,
    "dtype": jnp.bfloat16 if config.precision == "bfloat16" else None,
  }


def _network(create: Callable[..., nnx.Module]) -> Network:
  def create_from_key(key):
    return create(rngs=nnx.Rngs(params=key))

  abstract = nnx.eval_shape(create_from_key, jax.random.key(0))
  return Network(nnx.split(abstract, nnx.Param, ...)[0], create_from_key)


def _state_of(module: nnx.Module) -> Tree:
  return nnx.to_pure_dict(nnx.split(module, nnx.Param, ...)[2])
