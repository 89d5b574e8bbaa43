"""Generators as files: weights to share, or functions that run elsewhere.

The functions have their weights inside and compute in float32. Platforms with
several forms of a convolution would need several programs, so all functions use
the plain form.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from msggan_jax import kernels
from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.data import reading
from msggan_jax.models import base_grid, networks
from msggan_jax.models.pyramid import resolutions_up_to
from msggan_jax.sharing import model_card

PLATFORMS = ("cpu", "cuda", "tpu")  # of StableHLO
_MOST_CLASSES = 20  # that are printed
_VARIANTS = {"psi", "w", "noise"}

Arrays = dict[str, jax.Array]  # by the names of inputs
Inputs = dict[str, jax.ShapeDtypeStruct]  # of a symbolic batch


class Function(NamedTuple):
  """A function of arrays, with named inputs and outputs in order."""

  name: str
  inputs: Inputs
  outputs: tuple[str, ...]
  compute: Callable[[Arrays], tuple[jax.Array, ...]]  # from named arrays

  def call(self, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Map the inputs, in order, to the outputs."""
    return self.compute(dict(zip(self.inputs, arrays, strict=True)))


def export(
  workdir: str | Path,
  output: Path,
  step: int | str | None = None,
  *,
  with_discriminator: bool = False,
) -> int:
  """Write a run's EMA generator and card to a new file; return its step."""
  safetensors_file.check_free(output)
  names = [safetensors_file.GENERATOR]
  if with_discriminator:
    names.append(safetensors_file.DISCRIMINATOR)
  step, loaded = trained.load_networks(Path(workdir), step, names)
  config = loaded[safetensors_file.GENERATOR][0]
  trees = {
    name: (params, state) for name, (*_, params, state) in loaded.items()
  }
  card = model_card.to_metadata(model_card.read(workdir, step))
  safetensors_file.write(output, config, step, trees, card)
  return step


def write(
  source: str | Path,
  output: Path,
  kind: str,
  step: int | str | None = None,
  variant: Sequence[str] = (),
) -> list[str]:
  """Write a generator to a new file; return lines on its inputs and outputs.

  `source` and `step` are those of `trained.load_generator`, `kind` is
  "stablehlo" or "onnx", `variant` as in `whole`.
  """
  safetensors_file.check_free(output)
  if kind == "onnx":
    check_jax2onnx()
  generator = trained.load_generator(source, step)
  function = whole(generator, variant)
  if kind == "onnx":
    card = model_card.to_metadata(model_card.read(source, generator.step))
    content = to_onnx(function, card)
  else:
    content = to_stablehlo(function)
  safetensors_file.write_new(output, content)
  inputs = (  # such as z (batch, 64) float32
    f"{name} ({', '.join(map(str, x.shape))}) {x.dtype}"
    for name, x in function.inputs.items()
  )
  lines = [
    f"inputs: {', '.join(inputs)}",
    f"outputs: {', '.join(function.outputs)}",
  ]
  if generator.value_range:
    lines.append(f"-1 to 1 are {generator.value_range.describe()}")
  if names := generator.class_names:
    pairs = (f"{label}: {name}" for label, name in enumerate(names))
    lines.append(f"classes: {reading.listed(pairs, _MOST_CLASSES)}")
  return lines


def to_stablehlo(function: Function) -> bytes:
  """Return a function for `jax.export.deserialize`, of any batch size.

  Its results are a dictionary by the names of the outputs.
  """

  def named(*arrays: jax.Array) -> dict[str, jax.Array]:
    return dict(zip(function.outputs, function.call(*arrays), strict=True))

  export_for = jax.export.export(jax.jit(named), platforms=PLATFORMS)
  return bytes(export_for(*function.inputs.values()).serialize())


def check_jax2onnx(format: str = "onnx") -> None:
  """Raise FileNotFoundError if jax2onnx, which `format` needs, is missing."""
  if importlib.util.find_spec("jax2onnx") is None:
    raise FileNotFoundError(
      f"--format={format} needs jax2onnx, in an environment of its own: "
      "make onnx, then .venv-onnx/bin/python -m msggan_jax.export with the "
      "same flags"
    )


def to_onnx(
  function: Function, metadata: Mapping[str, str] | None = None
) -> bytes:
  """Return a function as an ONNX model of any batch size."""
  import jax2onnx  # pyrefly: ignore[missing-import]

  model = jax2onnx.to_onnx(
    function.call,
    inputs=list(function.inputs.values()),
    input_names=list(function.inputs),
    output_names=list(function.outputs),
    model_name=function.name,
  )
  for key, value in (metadata or {}).items():
    model.metadata_props.add(key=key, value=value)
  return model.SerializeToString()


def whole(
  generator: trained.Generator, variant: Sequence[str] = ()
) -> Function:
  """Return a generator as one function.

  It maps z, then labels if conditional, psi and noise_0, noise_1, ... to
  image_4x4, image_8x8, ..., each (B, r, r, channels). `variant` has, of
  MSG-StyleGAN, any of "psi" (truncation, a scalar), "w" (instead of z and
  labels, one w for each layer), "noise" (a map for each layer instead of the
  stored ones); "psi" and "w" exclude each other.

  Raises:
    ValueError: If the generator has no such variant.
  """
  text = ",".join(variant)
  if unknown := [name for name in variant if name not in _VARIANTS]:
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
  module = _plain_module(generator)
  wanted = {*variant} if "w" in variant else {"z", "labels", *variant}
  inputs = {
    name: x
    for name, x in _inputs(generator).items()
    if name.partition("_")[0] in wanted
  }

  def compute(given: Arrays) -> tuple[jax.Array, ...]:
    if not is_stylegan(generator):
      return module(given["z"], given.get("labels"))
    w = given["w"] if "w" in given else _map_latents(module, given)
    maps = [given[name] for name in given if name.startswith("noise_")]
    return module.synthesize(w, maps=maps or None)

  outputs = tuple(map(image_name, module.scales))
  return Function("generator", inputs, outputs, compute)


def segments(generator: trained.Generator) -> list[Function]:
  """Cut a generator into functions that run one after the other.

  Returns:
    "latent": z, labels if conditional, and of MSG-StyleGAN psi, to w, (B,
    layers, w_size), or to the first block's x; missing if x would be z. Then
    for each scale "scale_<r>x<r>": x of the function before it, and of
    MSG-StyleGAN w and a noise map for each of its layers, to "next", the next
    x, and the image. The first scale of MSG-StyleGAN has no x, the last one
    returns none. An exact pyramid's scales also get the image before them. If
    all images are means of the largest, one function draws all.
  """
  kind = generator.config.pyramid
  module = _plain_module(generator)
  stylegan = is_stylegan(generator)
  known = _inputs(generator)

  def start(given: Arrays) -> tuple[jax.Array, ...]:
    if stylegan:
      return (_map_latents(module, given),)
    return (module.join(given["z"], given.get("labels")),)

  names = ("z", "labels", "psi") if stylegan else ("z", "labels")
  inputs = {name: known[name] for name in names if name in known}
  latent = Function("latent", inputs, ("w" if stylegan else "next",), start)
  made = [latent] if stylegan or generator.config.num_classes else []
  before = {} if stylegan else {"x": _first_output(latent)}
  ends = module.resolutions[-1:] if kind == "pooled" else module.scales
  blocks: list[int] = []
  for i, resolution in enumerate(module.resolutions):
    blocks.append(resolution)
    if resolution not in ends:
      continue
    inputs = dict(before)
    if stylegan:
      layers = range(2 * (i + 1 - len(blocks)), 2 * (i + 1))
      names = ("w", *(f"noise_{layer}" for layer in layers))
      inputs |= {name: known[name] for name in names}
    made.append(_segment(module, inputs, tuple(blocks)))
    before = {"x": _first_output(made[-1])}
    if kind == "exact":
      name = image_name(resolution)
      before[name] = known[name]
    blocks = []
  return made


def _map_latents(module: nnx.Module, given: Arrays) -> jax.Array:
  w = module.map_latents(given["z"], given.get("labels"))
  if "psi" in given:
    w = module.truncate(w, given["psi"], trained.TRUNCATION_CUTOFF)
  return w


def _first_output(function: Function) -> jax.ShapeDtypeStruct:
  return jax.eval_shape(function.call, *function.inputs.values())[0]


def image_name(resolution: int) -> str:
  """Return the name of a scale's images."""
  return f"image_{resolution}x{resolution}"


def is_stylegan(generator: trained.Generator) -> bool:
  """Return whether a generator has w and noise."""
  return generator.config.model == "stylegan"


def _segment(
  module: nnx.Module, inputs: Inputs, blocks: tuple[int, ...]
) -> Function:
  """Return the blocks from below one connected scale up to it."""

  def compute(given: Arrays) -> tuple[jax.Array, ...]:
    styles = [()] * len(blocks)
    if "w" in given:
      firsts = (2 * module.resolutions.index(r) for r in blocks)
      styles = [
        (
          [given["w"][:, layer] for layer in (first, first + 1)],
          [given[f"noise_{layer}"] for layer in (first, first + 1)],
        )
        for first in firsts
      ]
    x, images = module.run(blocks, given.get("x"), styles)
    below = [given[name] for name in given if name.startswith("image_")]
    images = module.join_images([*below, *images])[len(below) :]
    return images if is_last else (x, *images)

  is_last = blocks[-1] == module.resolutions[-1]
  names = tuple(image_name(r) for r in blocks if r in module.scales)
  outputs = names if is_last else ("next", *names)
  title = names[-1].replace("image", "scale")
  return Function(title, inputs, outputs, compute)


def _plain_module(generator: trained.Generator) -> nnx.Module:
  """Return the generator's module in float32 with plain convolutions."""
  config = ConfigDict(generator.config)  # a trainer's is frozen
  config.precision = "float32"
  network = networks.make_generator(config, kernels.PLAIN)
  trees = (generator.params, generator.state)
  params, state = jax.tree.map(jnp.asarray, trees)
  return nnx.merge(network.graphdef, params, state)


def _inputs(generator: trained.Generator) -> Inputs:
  """Return every input that a function can have, in their order."""
  config = generator.config
  grid = base_grid.parse(config.base_grid)
  resolutions = resolutions_up_to(config.resolution)
  (batch,) = jax.export.symbolic_shape("batch")
  shapes = {"z": (batch, config.latent_size)}
  if config.num_classes:
    shapes["labels"] = (batch,)
  shapes |= {"psi": (), "w": (batch, 2 * len(resolutions), config.w_size)}
  sizes = [base_grid.image_size(r, grid) for r in resolutions]
  for layer in range(2 * len(resolutions)):
    shapes[f"noise_{layer}"] = (batch, *sizes[layer // 2])
  for r, size in zip(resolutions, sizes, strict=True):
    shapes[image_name(r)] = (batch, *size, config.channels)
  return {
    name: jax.ShapeDtypeStruct(
      shape, jnp.int32 if name == "labels" else jnp.float32
    )
    for name, shape in shapes.items()
  }
