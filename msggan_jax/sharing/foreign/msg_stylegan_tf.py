"""The official MSG-StyleGAN's pickles, read without TensorFlow.

A file contains G, D and Gs, each a `dnnlib.tflib.network.Network`: settings,
variables, and the Python source that built it, which is never read.
"""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msggan_jax.checkpoints.tensors import (
  SAME,
  Layout,
  Source,
  Table,
  Weights,
  quote,
)
from msggan_jax.models.pyramid import resolutions_up_to
from msggan_jax.sharing.foreign import restricted
from msggan_jax.sharing.foreign.restricted import Global, Object

_NUMBER_TYPES = {
  *("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
# NumPy 2 renamed the module.
_RECONSTRUCT, _SCALAR = (
  {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")}
  for name in ("_reconstruct", "scalar")
)
_KNOWN = {
  *("dnnlib.tflib.network.Network", "dnnlib.util.EasyDict"),
  *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
  *(_RECONSTRUCT | _SCALAR),
}

_Encode = Callable[[str], bytes]


@dataclasses.dataclass
class Network:
  """The state of one network."""

  name: str = ""  # such as "G_synthesis"
  # Settings that differ from the build function's defaults.
  static_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
  # With its components', such as synthesis/noise0.
  variables: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def _network(value: Any, encode: _Encode, most_components: int) -> Network:
  """Return a network, except its source code.

  Only G has components, its mapping and its synthesis, which have none.
  """
  match value:
    case Object(
      "dnnlib.tflib.network.Network",
      (),
      {
        "name": str(name),
        "static_kwargs": dict(static_kwargs),
        "variables": list(variables),
      } as state,
    ):
      pass
    case Object("dnnlib.tflib.network.Network"):
      raise ValueError("a network lacks its name, settings or variables")
    case _:
      raise ValueError("the file contains something else than networks")
  components = state.get("components", {})
  if not isinstance(components, dict) or len(components) > most_components:
    raise ValueError(f"{quote(name)} has unknown components")
  arrays = {}
  for variable in variables:
    match variable:
      case (str(key), Object() as array):
        arrays[key] = _array(array, encode)
      case _:
        raise ValueError(f"{quote(name)} has a variable that is not an array")
  for component, value in components.items():
    inner = _network(value, encode, 0).variables
    arrays |= {f"{component}/{key}": array for key, array in inner.items()}
  settings = {key: _number(each, encode) for key, each in static_kwargs.items()}
  return Network(name, settings, arrays)


def _array(value: Object, encode: _Encode) -> np.ndarray:
  match value:
    case Object(
      called,
      (Global("numpy.ndarray"), *_),
      (int(), tuple(shape), Object() as kind, bool(fortran), raw),
    ) if called in _RECONSTRUCT:
      dtype, raw = _dtype(kind), _bytes(raw, encode)
    case _:
      raise ValueError("an array is built in an unknown form")
  # NumPy would infer a size of -1; it checks the others.
  if not all(type(size) is int and 0 < size <= len(raw) for size in shape):
    raise ValueError("an array has an impossible shape")
  values = np.frombuffer(raw, dtype)
  return values.reshape(shape, order="F" if fortran else "C")


def _dtype(value: Any) -> np.dtype:
  match value:
    case Object("numpy.dtype", (str(name), *_), None) if name in _NUMBER_TYPES:
      return np.dtype(name)
    case Object(
      "numpy.dtype",
      (str(name), *_),
      (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_),
    ) if name in _NUMBER_TYPES:
      return np.dtype(name).newbyteorder(order)
  raise ValueError("an array's type is not a plain number")


def _bytes(value: Any, encode: _Encode) -> bytes:
  match value:
    case bytes():
      return value
    case str(text) | Object("_codecs.encode", (str(text), "latin1")):
      return encode(text)
  raise ValueError("an array's values are not bytes")


def _number(value: Any, encode: _Encode) -> Any:
  """Return NumPy's numbers as Python's, anything else as it is."""
  match value:
    case Object(called, (kind, raw)) if called in _SCALAR:
      dtype, raw = _dtype(kind), _bytes(raw, encode)
      if len(raw) != dtype.itemsize:
        raise ValueError("a number is built in an unknown form")
      return np.frombuffer(raw, dtype)[0].item()
  return value


# Defaults of settings that static_kwargs lack.
_G_DEFAULTS = {
  "num_channels": 3,
  "resolution": 1024,
  "label_size": 0,
  "latent_size": 512,
  "dlatent_size": 512,
  "mapping_fmaps": 512,
  "mapping_layers": 8,
  "fmap_base": 8192,
  "fmap_max": 512,
}
_SHARED = ("num_channels", "resolution", "label_size", "fmap_base", "fmap_max")
_D_DEFAULTS = {k: _G_DEFAULTS[k] for k in _SHARED} | {"mbstd_group_size": 4}
# Settings that change the computation, with the only supported value.
_FIXED = {
  "normalize_latents": True,
  "mapping_lrmul": 0.01,
  "mapping_nonlinearity": "lrelu",
  "nonlinearity": "lrelu",
  "use_wscale": True,
  "use_styles": True,
  "use_noise": True,
  "use_instance_norm": True,
  "use_pixel_norm": False,
  "const_input_layer": True,
  "fmap_decay": 1.0,
  "mbstd_num_features": 1,
  "blur_filter": [1, 2, 1],
  "fused_scale": "auto",  # as `_FUSED_FROM`
}
_LARGEST = 4096  # of any setting, except those below
_LARGEST_OF = {"fmap_base": _LARGEST**2, "mapping_layers": 64}
# From this resolution the official code fuses upsampling and convolution into
# one transposed convolution, whose kernel is stored mirrored.
_FUSED_FROM = 128

_DENSE_LAST = Layout(
  # (C H W, O) to (H, W, C, O): the valid 4x4 convolution here.
  lambda s: (s[0] * s[1] * s[2], s[3]),
  lambda x: x.reshape(-1, 4, 4, x.shape[1]).transpose(1, 2, 0, 3),
)
_CONSTANT = Layout(
  lambda s: (1, s[2], s[0], s[1]), lambda x: x[0].transpose(1, 2, 0)
)
_NOISE = Layout(lambda s: (1, 1, *s), lambda x: x[0, 0])
_MIRRORED = Layout(lambda s: s, lambda x: x[::-1, ::-1])


def read(path: str | Path) -> Weights:
  """Read an official .pkl of (G, D, Gs); nothing in the file is executed.

  Raises:
    ValueError: If the file is damaged or contains anything but these networks.
  """
  data = restricted.read_bytes(path)
  if not data.startswith(restricted.PICKLE):
    raise ValueError(
      f"{path}: not a file of the official code, which is a pickle"
    )
  # Cached: a file can refer to one text many times.
  encode = functools.cache(lambda text: text.encode("latin1"))
  try:
    content = restricted.load(io.BytesIO(data), _KNOWN)
    if not isinstance(content, tuple | list) or len(content) != 3:
      raise ValueError("the file does not contain three networks: G, D and Gs")
    networks = [_network(each, encode, most_components=2) for each in content]
    fields = architecture(networks)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  generator, discriminator, ema = (each.variables for each in networks)
  scales = resolutions_up_to(fields["resolution"])
  return Weights(
    fields | {"stddev_grouping": "strided"},
    generator=generator,
    ema=ema,
    discriminator=discriminator,
    g_table=generator_table(
      scales, fields["mapping_layers"], fields["num_classes"]
    ),
    d_table=discriminator_table(scales, fields["channels"]),
  )


def architecture(networks: list[Network]) -> dict[str, int]:
  """Return the config fields that follow from the settings of G, D and Gs."""
  g, d, gs = map(_settings, networks, (_G_DEFAULTS, _D_DEFAULTS, _G_DEFAULTS))
  shared = [k for k in _SHARED if d[k] != g[k]]
  shared += [k for k in g if g[k] != gs[k]]
  if shared:
    raise ValueError(f"G, D and Gs differ in {', '.join(shared)}")
  return {
    "resolution": g["resolution"],
    "channels": g["num_channels"],
    "num_classes": g["label_size"],
    "latent_size": g["latent_size"],
    "w_size": g["dlatent_size"],
    "mapping_size": g["mapping_fmaps"],
    "mapping_layers": g["mapping_layers"],
    # The official width at resolution r is fmap_base / (r / 2).
    "base_channels": 2 * g["fmap_base"],
    "max_channels": g["fmap_max"],
    "stddev_group": d["mbstd_group_size"],
  }


def _settings(network: Network, defaults: dict[str, int]) -> dict[str, int]:
  given = network.static_kwargs
  for name, value in _FIXED.items():
    if name in given and given[name] != value:
      raise ValueError(
        f"{quote(network.name)} has {name}={quote(given[name])}; only "
        f"{value!r} is supported"
      )
  settings = {name: given.get(name, value) for name, value in defaults.items()}
  for name, value in settings.items():
    largest = _LARGEST_OF.get(name, _LARGEST)
    smallest = 0 if name == "label_size" else 1
    if type(value) is not int or not smallest <= value <= largest:
      raise ValueError(
        f"{quote(network.name)} has an impossible {name}={quote(value)}"
      )
  return settings


def generator_table(
  scales: tuple[int, ...], mapping_layers: int, num_classes: int
) -> Table:
  """Return the sources of the generator's arrays; scales from 4 up."""
  table = {"w_avg": Source("dlatent_avg", SAME)}
  if num_classes:
    table["label_embedding"] = Source("mapping/LabelConcat/weight", SAME)
  for i in range(mapping_layers):
    table |= _dense(f"mapping/dense_{i}", f"mapping/Dense{i}")
  for i, r in enumerate(scales):
    block, theirs = f"block_{r}x{r}", f"synthesis/{r}x{r}"
    if r == 4:
      first, second = f"{theirs}/Const", f"{theirs}/Conv"
      table[f"{block}/constant"] = Source(f"{first}/const", _CONSTANT)
    else:
      first, second = f"{theirs}/Conv0_up", f"{theirs}/Conv1"
      table[f"{block}/layer_0/conv/kernel"] = Source(
        f"{first}/weight", _MIRRORED if r >= _FUSED_FROM else SAME
      )
    table[f"{block}/layer_1/conv/kernel"] = Source(f"{second}/weight", SAME)
    for j, layer in enumerate((first, second)):
      ours = f"{block}/layer_{j}"
      table[f"{ours}/noise"] = Source(f"synthesis/noise{2 * i + j}", _NOISE)
      table[f"{ours}/noise_weight"] = Source(f"{layer}/Noise/weight", SAME)
      table[f"{ours}/bias"] = Source(f"{layer}/bias", SAME)
      # In both, the style's first half is the scale, the second the shift.
      table |= _dense(f"{ours}/style", f"{layer}/StyleMod")
    lod = len(scales) - 1 - i
    table |= _dense(f"to_rgb_{r}x{r}", f"synthesis/ToRGB_lod{lod}")
  return table


def discriminator_table(scales: tuple[int, ...], channels: int) -> Table:
  """Return the sources of the discriminator's arrays; scales from 4 up."""
  full = scales[-1]
  table = _dense(f"from_rgb_{full}x{full}", "FromRGB_lod0")
  for r in scales:
    block, theirs = f"block_{r}x{r}", f"{r}x{r}"
    first, second = ("Conv0", "Conv1_down") if r > 4 else ("Conv", "Dense0")
    table |= _dense(f"{block}/conv_0", f"{theirs}/{first}")
    table |= _dense(f"{block}/conv_1", f"{theirs}/{second}")
    if r < full:
      table[f"{block}/combine/conv/kernel"] = Source(
        f"{theirs}/combine/weight", _combine(channels)
      )
  table["block_4x4/conv_1/kernel"] = Source("4x4/Dense0/weight", _DENSE_LAST)
  return table | _dense("score", "4x4/Dense1")


def _dense(ours: str, theirs: str) -> Table:
  # All official kernels have our axes and are stored unscaled.
  return {
    f"{ours}/kernel": Source(f"{theirs}/weight", SAME),
    f"{ours}/bias": Source(f"{theirs}/bias", SAME),
  }


def _combine(channels: int) -> Layout:
  """Return the layout of φ's kernel: the official input has the image last."""
  return Layout(lambda shape: shape, lambda x: np.roll(x, channels, axis=2))
