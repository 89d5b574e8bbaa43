"""Build the networks from a configuration; call them as pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict, FrozenConfigDict

from msggan_jax.kernels import BY_PLATFORM, Kernels
from msggan_jax.models import discriminator, progan, stylegan
from msggan_jax.models.layers import Layer
from msggan_jax.models.multi_scale import MultiScale
from msggan_jax.models.pyramid import Pyramid

Tree = dict[str, Any]  # nested, of arrays


@dataclasses.dataclass(frozen=True)
class Network:
  """The structure of a network, without its arrays.

  Methods take the arrays as two trees. `params` holds the trained weights.
  `state` holds noise maps, the average of w and the vectors of spectral norm;
  it is empty for the paper's MSG-ProGAN.

  Attributes:
    graphdef: The module's static part.
    create: Key -> module with initial weights.
    fit: Brings images of the largest scale into the form of its blocks.
  """

  graphdef: nnx.GraphDef
  create: Callable[[jax.Array], nnx.Module]
  fit: Callable[[jax.Array], Any] = lambda images: images

  def init(self, key: jax.Array) -> tuple[Tree, Tree]:
    """Draw the initial parameters and state."""
    _, params, state = nnx.split(self.create(key), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

  def apply(
    self, params: Tree, state: Tree, *args, method: str = "__call__", **kwargs
  ) -> Any:
    """Call the network or the named method."""
    module = nnx.merge(self.graphdef, params, state)
    return getattr(module, method)(*args, **kwargs)

  def apply_and_update(
    self,
    params: Tree,
    state: Tree,
    z: jax.Array,
    labels: jax.Array | None = None,
    **options: Any,
  ) -> tuple[Pyramid, Tree]:
    """Generate images in training; also return the new state.

    The options are those of MSG-StyleGAN's `__call__`; others have none.
    """
    module = nnx.merge(self.graphdef, params, state)
    if not isinstance(module, stylegan.Generator):
      options = {}
    return module(z, labels, **options), _state_of(module)

  def power_iterate(self, params: Tree, state: Tree) -> Tree:
    """Run one power iteration per spectral norm; return the new state."""
    module = nnx.merge(self.graphdef, params, state)
    for _, layer in nnx.iter_modules(module):
      if isinstance(layer, Layer):
        layer.power_iterate()
    return _state_of(module)

  def run_time_factors(self) -> dict[str, float]:
    """Return the factors of kernels and biases (equalized rate), by path."""
    module = nnx.eval_shape(self.create, jax.random.key(0))
    return {
      "/".join(map(str, (*path, name))): scale
      for path, layer in nnx.iter_modules(module)
      if isinstance(layer, Layer)
      for name, scale in (("kernel", layer.scale), ("bias", layer.bias_scale))
    }

  @functools.cached_property
  def jitted_apply(self) -> Callable:
    """Compile `apply` once for all users of this network."""
    return jax.jit(self.apply, static_argnames="method")

  @functools.cached_property
  def shapes(self) -> tuple[Tree, Tree]:
    """Return the shapes and dtypes of the parameters and the state."""
    return jax.eval_shape(self.init, jax.random.key(0))


def make_generator(config: ConfigDict, forms: Kernels = BY_PLATFORM) -> Network:
  """Build the generator of a configuration.

  With any kernels it is the same function of the same parameters.
  """
  if config.model == "stylegan":
    return _network(stylegan.Generator, config, forms)
  return _network(progan.Generator, config, forms)


def make_discriminator(
  config: ConfigDict, forms: Kernels = BY_PLATFORM
) -> Network:
  """Build the discriminator of a configuration; it takes any form of images."""
  return _network(discriminator.Discriminator, config, forms)


def _network(
  network: type[MultiScale], config: ConfigDict, forms: Kernels
) -> Network:
  config = FrozenConfigDict(config)  # a part of the graph, so hashable

  def create(key: jax.Array) -> MultiScale:
    return network(config, forms, nnx.Rngs(params=key))

  abstract = nnx.eval_shape(create, jax.random.key(0))
  width = abstract.width(config.resolution)
  return Network(
    graphdef=nnx.graphdef(abstract),
    create=create,
    fit=lambda images: forms.fit(images, width),
  )


def _state_of(module: nnx.Module) -> Tree:
  _, _, state = nnx.split(module, nnx.Param, ...)
  return nnx.to_pure_dict(state)
