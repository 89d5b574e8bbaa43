"""Generators as plain functions of arrays, with their weights inside.

Platforms with several forms of a convolution would need several programs, so
all functions use the plain form. They compute in float32.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from msggan_jax.checkpoints import trained
from msggan_jax.models import base_grid, networks
from msggan_jax.models.conv_layer import Conv
from msggan_jax.models.pyramid import resolutions_up_to

_VARIANTS = {"psi", "w", "noise"}


@dataclasses.dataclass(frozen=True)
class Input:
  """An argument of a function.

  Attributes:
    name: Its name.
    shape: Its shape, without the batch.
    dtype: "float32" or "int32".
    batched: Whether a batch is the first dimension.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str = "float32"
  batched: bool = True


@dataclasses.dataclass(frozen=True)
class Function:
  """A function with named inputs and outputs.

  Attributes:
    name: Its name.
    inputs: The arguments, in order.
    outputs: Names of the results, in order.
    call: Maps arrays to a tuple of arrays.
  """

  name: str
  inputs: tuple[Input, ...]
  outputs: tuple[str, ...]
  call: Callable[..., tuple[jax.Array, ...]]


def whole(
  generator: trained.Generator, variant: Sequence[str] = ()
) -> Function:
  """Return a generator as one function.

  Args:
    generator: The generator.
    variant: Of MSG-StyleGAN, any of "psi" (truncation, a scalar), "w" (instead
      of z and labels, one w for each layer), "noise" (a map for each layer
      instead of the stored ones); "psi" and "w" exclude each other.

  Returns:
    z, then labels if conditional, psi and noise_0, noise_1, ... to image_4x4,
    image_8x8, ..., each (B, r, r, channels).

  Raises:
    ValueError: If the generator has no such variant.
  """
  check_variant(generator, variant)
  module = _plain_module(generator)
  inputs = _noise_inputs(generator) if "noise" in variant else ()
  if "w" in variant:
    inputs = (_w_input(generator), *inputs)
  else:
    inputs = (*_latent_inputs(generator, "psi" in variant), *inputs)

  def call(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    given = dict(zip([each.name for each in inputs], arrays, strict=True))
    maps = [given[name] for name in given if name.startswith("noise_")]
    if "w" in given:
      return module.synthesize(given["w"], maps=maps or None)
    if not is_stylegan(generator):
      return module(given["z"], given.get("labels"))
    w = module.map_latents(given["z"], given.get("labels"))
    if "psi" in given:
      w = module.truncate(w, given["psi"], trained.TRUNCATION_CUTOFF)
    return module.synthesize(w, maps=maps or None)

  scales = module.scales
  return Function("generator", inputs, tuple(map(image_name, scales)), call)


def segments(generator: trained.Generator) -> list[Function]:
  """Cut a generator into functions that run one after the other.

  Returns:
    "latent": z, labels if conditional, and of MSG-StyleGAN psi, to w, (B,
    layers, w_size), or to the first block's input x. Then for each scale
    "scale_<r>x<r>": x of the function before it, and of MSG-StyleGAN w and a
    noise map for each of its layers, to the next x and the image. The first
    scale of MSG-StyleGAN has no x, the last one returns none.
  """
  module = _plain_module(generator)
  stylegan = is_stylegan(generator)
  inputs = _latent_inputs(generator, psi=stylegan)

  def latent(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    given = dict(zip([each.name for each in inputs], arrays, strict=True))
    if not stylegan:
      return (module.join(given["z"], given.get("labels")),)
    w = module.map_latents(given["z"], given.get("labels"))
    cutoff = trained.TRUNCATION_CUTOFF
    return (module.truncate(w, given["psi"], cutoff),)

  made = [Function("latent", inputs, ("w" if stylegan else "x",), latent)]
  batch = [_abstract(each) for each in inputs]
  (below,) = jax.eval_shape(latent, *batch)
  shape = None if stylegan else below.shape[1:]
  blocks: list[int] = []
  for resolution in module.resolutions:
    blocks.append(resolution)
    if resolution in module.scales:
      segment = _segment(generator, module, tuple(blocks), shape)
      x = jax.eval_shape(segment.call, *map(_abstract, segment.inputs))[0]
      shape = x.shape[1:]
      made.append(segment)
      blocks = []
  return made


def image_name(resolution: int) -> str:
  """Return the name of a scale's images."""
  return f"image_{resolution}x{resolution}"


def is_stylegan(generator: trained.Generator) -> bool:
  """Return whether a generator has w and noise."""
  return generator.config.model == "stylegan"


def check_variant(generator: trained.Generator, variant: Sequence[str]) -> None:
  """Raise ValueError if a generator has no such variant, see `whole`."""
  text = ",".join(variant)
  unknown = [name for name in variant if name not in _VARIANTS]
  if unknown:
    raise ValueError(
      f"--variant={text}: {unknown[0]!r} is none of psi, w and noise"
    )
  if variant and not is_stylegan(generator):
    raise ValueError(
      f"--variant={text}: this generator has no w and no noise: config.model "
      f"is {generator.config.model}, not stylegan"
    )
  if {"psi", "w"} <= set(variant):
    raise ValueError(f"--variant={text}: a given w is not truncated by psi")


def _segment(
  generator: trained.Generator,
  module: nnx.Module,
  blocks: tuple[int, ...],
  shape: tuple[int, ...] | None,
) -> Function:
  """Return the blocks from below one connected scale up to it."""
  stylegan = is_stylegan(generator)
  first = 2 * module.resolutions.index(blocks[0])
  last = blocks[-1] == generator.config.resolution
  inputs = [] if shape is None else [Input("x", shape)]
  if stylegan:
    maps = _noise_inputs(generator)[first : first + 2 * len(blocks)]
    inputs += [_w_input(generator), *maps]

  def call(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    given = dict(zip([each.name for each in inputs], arrays, strict=True))
    x, image = given.get("x"), None
    for i, resolution in enumerate(blocks):
      if not stylegan:
        x, image = module.grow(resolution, x)
        continue
      pair = (first + 2 * i, first + 2 * i + 1)
      x, image = module.grow(
        resolution,
        x,
        [given["w"][:, layer] for layer in pair],
        [given[f"noise_{layer}"] for layer in pair],
      )
    return (image,) if last else (x, image)

  name = image_name(blocks[-1])
  outputs = (name,) if last else ("x", name)
  return Function(name.replace("image", "scale"), tuple(inputs), outputs, call)


def _plain_module(generator: trained.Generator) -> nnx.Module:
  """Return the generator's module in float32 with plain convolutions."""
  config = generator.config.copy_and_resolve_references()
  config.precision = "float32"
  network = networks.make_generator(config)
  trees = (generator.params, generator.state)
  params, state = jax.tree.map(jnp.asarray, trees)
  module = nnx.merge(network.graphdef, params, state)
  for _, layer in nnx.iter_modules(module):
    if isinstance(layer, Conv):
      layer.plain = True
  return module


def _latent_inputs(
  generator: trained.Generator, psi: bool
) -> tuple[Input, ...]:
  inputs = [Input("z", (generator.config.latent_size,))]
  if generator.config.num_classes:
    inputs.append(Input("labels", (), "int32"))
  if psi:
    inputs.append(Input("psi", (), batched=False))
  return tuple(inputs)


def _w_input(generator: trained.Generator) -> Input:
  layers = 2 * len(resolutions_up_to(generator.config.resolution))
  return Input("w", (layers, generator.config.w_size))


def _noise_inputs(generator: trained.Generator) -> tuple[Input, ...]:
  grid = base_grid.parse(generator.config.base_grid)
  return tuple(
    Input(f"noise_{2 * i + j}", base_grid.image_size(resolution, grid))
    for i, resolution in enumerate(
      resolutions_up_to(generator.config.resolution)
    )
    for j in range(2)
  )


def _abstract(each: Input) -> jax.ShapeDtypeStruct:
  shape = (1, *each.shape) if each.batched else each.shape
  return jax.ShapeDtypeStruct(shape, jnp.dtype(each.dtype))
