"""Build the networks from a configuration; call them as pure functions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from msggan_jax.kernels import BY_PLATFORM, Kernels
from msggan_jax.kernels.precision import PRECISIONS
from msggan_jax.models import base_grid, discriminator, progan, stylegan
from msggan_jax.models.layers import Common, Layer
from msggan_jax.models.pyramid import Pyramid, connected_scales
from msggan_jax.models.stddev import BatchMean, MinibatchStddev

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
    *,
    noise: jax.Array | None = None,
    batch_mean: BatchMean | None = None,
  ) -> tuple[Pyramid, Tree]:
    """Generate images in training; also return the new state.

    `noise` are keys, (B,), for MSG-StyleGAN's noise, and `batch_mean` the mean
    over the global batch, for its average of w.
    """
    module = nnx.merge(self.graphdef, params, state)
    if isinstance(module, stylegan.Generator):
      pyramid = module(z, labels, noise=noise, batch_mean=batch_mean)
    else:
      pyramid = module(z, labels)
    return pyramid, _state_of(module)

  def power_iterate(self, params: Tree, state: Tree) -> Tree:
    """Run one power iteration per spectral norm; return the new state."""
    module = nnx.merge(self.graphdef, params, state)
    for _, layer in nnx.iter_modules(module):
      if isinstance(layer, Layer):
        layer.power_iterate()
    return _state_of(module)

  def scales(self) -> dict[str, float]:
    """Return the factors of kernels and biases at run time, by path."""
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
    create = functools.partial(
      stylegan.Generator,
      latent_size=config.latent_size,
      w_size=config.w_size,
      mapping_size=config.mapping_size,
      mapping_layers=config.mapping_layers,
    )
  else:
    create = functools.partial(
      progan.Generator,
      latent_size=config.latent_size,
      residual=config.model == "residual",
      pixel_norm=config.pixel_norm,
      equalized=config.equalized,
      spectral_norm=config.spectral_norm,
      normalize_latents=config.normalize_latents,
      image_activation=config.output_activation,
    )
  return _network(config, forms, create)


def make_discriminator(
  config: ConfigDict, forms: Kernels = BY_PLATFORM
) -> Network:
  """Build the discriminator of a configuration; it takes any form of images."""
  create = functools.partial(
    discriminator.Discriminator,
    combine=config.combine,
    stddev=MinibatchStddev(
      group=config.stddev_group,
      grouping=config.stddev_grouping,
      spatial=config.stddev_spatial,
    ),
    stddev_placement=config.stddev_placement,
    stylegan=config.model == "stylegan",
    residual=config.model == "residual",
    equalized=config.equalized,
    spectral_norm=config.spectral_norm,
  )
  return _network(config, forms, create)


def _network(
  config: ConfigDict, forms: Kernels, create: Callable[..., nnx.Module]
) -> Network:
  common = Common(
    resolution=config.resolution,
    scales=connected_scales(config.resolution, config.connected_scales),
    channels=config.channels,
    num_classes=config.num_classes,
    base_channels=config.base_channels,
    max_channels=config.max_channels,
    linear_gain=config.linear_gain,
    # Training resolves "auto" first; without derivatives it has no effect.
    remat_from=0 if config.remat_from == "auto" else config.remat_from,
    precision=PRECISIONS[config.precision],
    base_grid=base_grid.parse(config.base_grid),
    pyramid=config.pyramid,
    forms=forms,
  )

  def create_from_key(key: jax.Array) -> nnx.Module:
    return create(common, rngs=nnx.Rngs(params=key))

  abstract = nnx.eval_shape(create_from_key, jax.random.key(0))
  return Network(
    graphdef=nnx.graphdef(abstract),
    create=create_from_key,
    fit=lambda images: forms.fit(images, common.width(common.resolution)),
  )


def _state_of(module: nnx.Module) -> Tree:
  _, _, state = nnx.split(module, nnx.Param, ...)
  return nnx.to_pure_dict(state)
