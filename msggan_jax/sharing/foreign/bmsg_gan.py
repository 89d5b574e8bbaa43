"""State dicts of the PyTorch versions: GAN_GEN_*.pth and GAN_DIS_*.pth.

BMSG-GAN stores kernels before the equalized learning rate's scaling, like ours.
msg-gan-v1 has the same names with two differences: the discriminator's lists
start with the 4x4 block, and convolutions in blocks have spectral norm.
"""

from collections.abc import Mapping

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
from msggan_jax.sharing.foreign.torch_file import read_torch

_MAX_SCALES = 11  # 4096x4096
_ORIGINAL = ".weight_orig"  # a kernel that spectral norm divides
_LATENT = "layers.0.conv_1"  # the generator's transposed convolution

# PyTorch's convolution kernels: OIHW to HWIO.
_CONV = Layout(
  lambda s: (s[3], s[2], s[0], s[1]), lambda x: x.transpose(2, 3, 1, 0)
)
# A 1x1 convolution that is a dense layer here: (O, I, 1, 1) to (I, O).
_CONV_AS_DENSE = Layout(lambda s: (s[1], s[0], 1, 1), lambda x: x[:, :, 0, 0].T)
# A 4x4 transposed convolution of a 1x1 input is a dense layer here:
# (I, O, 4, 4) to (I, 4 4 O).
_LATENT_AS_DENSE = Layout(
  lambda s: (s[0], s[1] // 16, 4, 4),
  lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1),
)


def read(
  generator: str, discriminator: str | None, *, spectral_norm: bool = False
) -> Weights:
  """Read files of a generator and, optionally, a discriminator.

  The generator becomes its moving average, too. msg-gan-v1 has spectral norm.
  """
  kernel = _ORIGINAL if spectral_norm else ".weight"
  tensors = _read_state_dict(generator)
  fields = _architecture(generator, tensors, f"{_LATENT}{kernel}")
  scales = resolutions_up_to(fields["resolution"])
  d_tensors = _read_state_dict(discriminator) if discriminator else None
  if spectral_norm:
    tensors = with_right_vectors(tensors, is_generator=True)
    if d_tensors:
      d_tensors = with_right_vectors(d_tensors, is_generator=False)
  return Weights(
    fields,
    generator=tensors,
    ema=tensors,
    discriminator=d_tensors,
    g_table=generator_table(scales, spectral_norm),
    d_table=discriminator_table(scales, spectral_norm),
  )


def _read_state_dict(path: str) -> dict[str, np.ndarray]:
  """Read tensors; drop DataParallel's "module." from their names."""
  tensors = {}
  for name, tensor in read_torch(path).items():
    short = ".".join(part for part in name.split(".") if part != "module")
    if short in tensors:
      raise ValueError(
        f"{path}: {quote(short)} occurs with and without 'module.'"
      )
    tensors[short] = tensor
  return tensors


def _architecture(
  path: str, generator: Mapping[str, np.ndarray], latent_kernel: str
) -> dict[str, int]:
  """Infer config fields from a generator's tensors."""
  latent = generator.get(latent_kernel)
  to_rgb = [
    tensor
    for name, tensor in generator.items()
    if name.startswith("rgb_converters.") and name.endswith(".bias")
  ]
  if (
    latent is None
    or latent.ndim != 4
    or not 1 <= len(to_rgb) <= _MAX_SCALES
    or to_rgb[0].ndim != 1
  ):
    raise ValueError(
      f"{path}: this is not a generator of this source: it needs "
      f"{latent_kernel} and 1 to {_MAX_SCALES} rgb_converters"
    )
  latent_size = latent.shape[0]
  return {
    "resolution": 4 * 2 ** (len(to_rgb) - 1),
    "channels": len(to_rgb[0]),
    "latent_size": latent_size,
    "base_channels": 32 * latent_size,
    "max_channels": latent_size,
  }


def with_right_vectors(
  tensors: Mapping[str, np.ndarray], is_generator: bool
) -> dict[str, np.ndarray]:
  """Add weight_v, which PyTorch before 1.0 did not save.

  That PyTorch recomputed it from weight_u in every call. A generator's first
  kernel is a transposed convolution.
  """
  tensors = dict(tensors)
  for name, kernel in list(tensors.items()):
    layer = name.removesuffix(_ORIGINAL)
    u = tensors.get(f"{layer}.weight_u")
    if layer == name or f"{layer}.weight_v" in tensors or u is None:
      continue
    if is_generator and layer == _LATENT:
      kernel = kernel.swapaxes(0, 1)
    if u.ndim != 1 or u.shape != kernel.shape[:1] or u.dtype.kind != "f":
      continue  # `to_trees` reports it as a misfit.
    with np.errstate(all="ignore"):  # `to_trees` reports NaN and Inf.
      v = u @ kernel.reshape(len(u), -1)
      tensors[f"{layer}.weight_v"] = v / max(np.linalg.norm(v), 1e-12)
  return tensors


def generator_table(
  scales: tuple[int, ...], spectral_norm: bool = False
) -> Table:
  """Return the sources of the generator's arrays; scales from 4 up."""
  table = {
    "block_4x4/dense/kernel": Source(f"{_LATENT}.weight", _LATENT_AS_DENSE),
    "block_4x4/bias": Source(f"{_LATENT}.bias", SAME),
  }
  table |= _conv("block_4x4/conv", "layers.0.conv_2")
  for i, r in enumerate(scales):
    if i:
      table |= _convs(f"block_{r}x{r}", f"layers.{i}")
    table |= _conv(f"to_rgb_{r}x{r}", f"rgb_converters.{i}")
  return _with_spectral_norm(table) if spectral_norm else table


def discriminator_table(
  scales: tuple[int, ...], spectral_norm: bool = False
) -> Table:
  """Return the sources of the discriminator's arrays; scales from 4 up."""
  table = {}
  for i, r in enumerate(scales):
    number = i if spectral_norm else i - 1
    layer, rgb = f"layers.{number}", f"rgb_to_features.{number}"
    if number < 0:
      layer, rgb = "final_block", "final_converter"
    if r == 4:
      table["score/kernel"] = Source(f"{layer}.conv_3.weight", _CONV_AS_DENSE)
      table["score/bias"] = Source(f"{layer}.conv_3.bias", SAME)
    table |= _convs(f"block_{r}x{r}", layer)
    is_last = r == scales[-1]
    ours = f"from_rgb_{r}x{r}" if is_last else f"block_{r}x{r}/combine/conv"
    table |= _conv(ours, rgb)
  return _with_spectral_norm(table) if spectral_norm else table


def _conv(ours: str, theirs: str) -> Table:
  return {
    f"{ours}/kernel": Source(f"{theirs}.weight", _CONV),
    f"{ours}/bias": Source(f"{theirs}.bias", SAME),
  }


def _convs(ours: str, theirs: str) -> Table:
  return _conv(f"{ours}/conv_0", f"{theirs}.conv_1") | _conv(
    f"{ours}/conv_1", f"{theirs}.conv_2"
  )


def _with_spectral_norm(table: Table) -> Table:
  normed = {}
  for path, source in table.items():
    layer = source.name.removesuffix(".weight")
    if path.endswith("/kernel") and layer.endswith((".conv_1", ".conv_2")):
      ours = path.removesuffix("/kernel")
      normed[path] = Source(f"{layer}{_ORIGINAL}", source.layout)
      normed[f"{ours}/u"] = Source(f"{layer}.weight_u", SAME)
      # The latent's kernel is 1x1: no axes to reorder.
      places = 16 if ours == "block_4x4/conv_1" else 9
      in_dense = ours == "block_4x4/dense"
      layout = SAME if in_dense else _right_vector(places)
      normed[f"{ours}/v"] = Source(f"{layer}.weight_v", layout)
    else:
      normed[path] = source
  return normed


def _right_vector(places: int) -> Layout:
  """Return the layout of v: (I, kh, kw) flattened there, (kh, kw, I) here."""
  return Layout(lambda shape: shape, lambda v: v.reshape(-1, places).T.ravel())
