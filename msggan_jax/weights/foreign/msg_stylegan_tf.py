"""The official MSG-StyleGAN's pickles, (G, D, Gs)."""

import numpy as np

from msggan_jax.weights.foreign.layouts import (
  SAME,
  Layout,
  Source,
  Table,
  Weights,
  scales_up_to,
)
from msggan_jax.weights.foreign.restricted import quote
from msggan_jax.weights.foreign.tf_pickle import Network, read_tf_pickle

PRESET = "msg_stylegan_official"

# What a setting is where static_kwargs do not hold it.
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
_D_DEFAULTS = {
  **{
    k: _G_DEFAULTS[k]
    for k in (
      "num_channels",
      "resolution",
      "label_size",
      "fmap_base",
      "fmap_max",
    )
  },
  "mbstd_group_size": 4,
}
# Settings that change what is computed, with the one value that exists here.
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
}
_LARGEST = 4096  # of any setting ...
_LARGEST_OF = {"fmap_base": _LARGEST**2, "mapping_layers": 64}  # ... but these
# From here on the official code fuses upsampling and convolution in one
# transposed convolution, whose kernel lies mirrored.
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


def read(path: str) -> Weights:
  """Read a pickle of (G, D, Gs).

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it cannot be read, or holds something else.
  """
  networks = read_tf_pickle(path)
  if len(networks) != 3:
    raise ValueError(f"{path} holds {len(networks)} networks, not G, D and Gs")
  try:
    fields = architecture(networks)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  generator, discriminator, ema = map(flatten, networks)
  scales = scales_up_to(fields["resolution"])
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
  """Return the configuration's fields that the settings of G and D say.

  Args:
    networks: G, D, Gs.

  Raises:
    ValueError: If a setting has a value that does not exist here, or the
      networks do not fit together.
  """
  g, d, gs = (
    _settings(networks[0], _G_DEFAULTS),
    _settings(networks[1], _D_DEFAULTS),
    _settings(networks[2], _G_DEFAULTS),
  )
  shared = [k for k in d if k in g and d[k] != g[k]]
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
    # Their width at resolution r is fmap_base / (r / 2).
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
        f"{value!r} can be taken over"
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


def flatten(network: Network) -> dict[str, np.ndarray]:
  """Return a network's arrays and its components', "synthesis/noise0"."""
  tensors = dict(network.variables)
  for component, inner in network.components.items():
    tensors |= {f"{component}/{k}": v for k, v in inner.variables.items()}
  return tensors


def generator_table(
  scales: tuple[int, ...], mapping_layers: int, num_classes: int
) -> Table:
  """Return where the generator's arrays are; scales from 4 up."""
  table = {"w_avg": Source("dlatent_avg", SAME)}
  if num_classes:
    table["label_embedding"] = Source("mapping/LabelConcat/weight", SAME)
  for i in range(mapping_layers):
    table |= _dense(f"mapping.dense_{i}", f"mapping/Dense{i}")
  for i, r in enumerate(scales):
    block, theirs = f"block_{r}x{r}", f"synthesis/{r}x{r}"
    if r == 4:
      first, second = f"{theirs}/Const", f"{theirs}/Conv"
      table[f"{block}.constant"] = Source(f"{first}/const", _CONSTANT)
    else:
      first, second = f"{theirs}/Conv0_up", f"{theirs}/Conv1"
      table[f"{block}.layer_0.conv.kernel"] = Source(
        f"{first}/weight", _MIRRORED if r >= _FUSED_FROM else SAME
      )
    table[f"{block}.layer_1.conv.kernel"] = Source(f"{second}/weight", SAME)
    for j, layer in enumerate((first, second)):
      ours = f"{block}.layer_{j}"
      table[f"{ours}.noise"] = Source(f"synthesis/noise{2 * i + j}", _NOISE)
      table[f"{ours}.noise_weight"] = Source(f"{layer}/Noise/weight", SAME)
      table[f"{ours}.bias"] = Source(f"{layer}/bias", SAME)
      # The style's first half is the scale in both, the second the shift.
      table |= _dense(f"{ours}.style", f"{layer}/StyleMod")
    lod = len(scales) - 1 - i
    table |= _dense(f"to_rgb_{r}x{r}", f"synthesis/ToRGB_lod{lod}")
  return table


def discriminator_table(scales: tuple[int, ...], channels: int) -> Table:
  """Return where the discriminator's arrays are; scales from 4 up."""
  full = scales[-1]
  table = _dense(f"from_rgb_{full}x{full}", "FromRGB_lod0")
  for r in scales:
    block, theirs = f"block_{r}x{r}", f"{r}x{r}"
    first, second = ("Conv0", "Conv1_down") if r > 4 else ("Conv", "Dense0")
    table |= _dense(f"{block}.conv_0", f"{theirs}/{first}")
    table |= _dense(f"{block}.conv_1", f"{theirs}/{second}")
    if r < full:
      table[f"{block}.combine.conv.kernel"] = Source(
        f"{theirs}/combine/weight", _combine(channels)
      )
  table["block_4x4.conv_1.kernel"] = Source("4x4/Dense0/weight", _DENSE_LAST)
  return table | _dense("score", "4x4/Dense1")


def _dense(ours: str, theirs: str) -> Table:
  # Their kernels, also the convolutions', have our axes and are unscaled.
  return {
    f"{ours}.kernel": Source(f"{theirs}/weight", SAME),
    f"{ours}.bias": Source(f"{theirs}/bias", SAME),
  }


def _combine(channels: int) -> Layout:
  """Return the layout of phi's kernel: the image comes last there."""
  return Layout(lambda shape: shape, lambda x: np.roll(x, channels, axis=2))
