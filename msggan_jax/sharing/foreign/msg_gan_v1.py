"""msg-gan-v1's state dicts: GAN_GEN_*.pth and GAN_DIS_*.pth.

The names are BMSG-GAN's, with two differences: the discriminator's lists start
with the 4x4 block, and convolutions in blocks have spectral norm.
"""

from collections.abc import Mapping

import numpy as np

from msggan_jax.checkpoints.tensors import SAME, Layout, Source, Table
from msggan_jax.sharing.foreign import bmsg_gan
from msggan_jax.sharing.foreign.layouts import (
  TORCH_CONV_AS_DENSE,
  Weights,
  scales_up_to,
  torch_conv,
)

PRESET = "msg_gan_v1"

_ORIGINAL = ".weight_orig"
_LATENT = f"layers.0.conv_1{_ORIGINAL}"


def read(generator: str, discriminator: str | None) -> Weights:
  """Read a generator and, optionally, a discriminator.

  Args:
    generator: Path of a GAN_GEN file; this version has no moving average.
    discriminator: Path of a GAN_DIS file, or None.

  Raises:
    FileNotFoundError: If a file does not exist.
    ValueError: If a file is unreadable or contains another network.
  """
  tensors = bmsg_gan.read_state_dict(generator)
  fields = bmsg_gan.architecture(generator, tensors, _LATENT)
  tensors = with_right_vectors(tensors, is_generator=True)
  d_tensors = None
  if discriminator:
    d_tensors = with_right_vectors(
      bmsg_gan.read_state_dict(discriminator), is_generator=False
    )
  scales = scales_up_to(fields["resolution"])
  return Weights(
    fields,
    generator=tensors,
    ema=tensors,
    discriminator=d_tensors,
    g_table=generator_table(scales),
    d_table=discriminator_table(scales),
  )


def with_right_vectors(
  tensors: Mapping[str, np.ndarray], is_generator: bool
) -> dict[str, np.ndarray]:
  """Add weight_v, which PyTorch before 1.0 did not save.

  That PyTorch recomputed it from weight_u in every call.

  Args:
    tensors: The file's tensors.
    is_generator: Whether the first kernel is a transposed convolution.
  """
  tensors = dict(tensors)
  for name, kernel in list(tensors.items()):
    layer = name.removesuffix(_ORIGINAL)
    u = tensors.get(f"{layer}.weight_u")
    if layer == name or f"{layer}.weight_v" in tensors or u is None:
      continue
    if is_generator and name == _LATENT:
      kernel = kernel.swapaxes(0, 1)
    if u.ndim != 1 or u.shape != kernel.shape[:1] or u.dtype.kind != "f":
      continue  # `to_trees` reports it as a misfit.
    with np.errstate(all="ignore"):  # `to_trees` reports NaN and Inf.
      v = u @ kernel.reshape(len(u), -1)
      tensors[f"{layer}.weight_v"] = v / max(np.linalg.norm(v), 1e-12)
  return tensors


def generator_table(scales: tuple[int, ...]) -> Table:
  """Return the sources of the generator's arrays; scales from 4 up."""
  return _with_spectral_norm(bmsg_gan.generator_table(scales))


def discriminator_table(scales: tuple[int, ...]) -> Table:
  """Return the sources of the discriminator's arrays; scales from 4 up."""
  table = {
    "score.kernel": Source("layers.0.conv_3.weight", TORCH_CONV_AS_DENSE),
    "score.bias": Source("layers.0.conv_3.bias", SAME),
  }
  for i, r in enumerate(scales):
    table |= bmsg_gan.blocks(f"block_{r}x{r}", f"layers.{i}")
    last = r == scales[-1]
    rgb = f"from_rgb_{r}x{r}" if last else f"block_{r}x{r}.combine.conv"
    table |= torch_conv(rgb, f"rgb_to_features.{i}")
  return _with_spectral_norm(table)


def _with_spectral_norm(table: Table) -> Table:
  normed = {}
  for path, source in table.items():
    layer = source.name.removesuffix(".weight")
    if path.endswith(".kernel") and layer.endswith((".conv_1", ".conv_2")):
      ours = path.removesuffix(".kernel")
      normed[path] = Source(f"{layer}{_ORIGINAL}", source.layout)
      normed[f"{ours}.u"] = Source(f"{layer}.weight_u", SAME)
      # The latent's kernel is 1x1: no axes to reorder.
      places = 16 if ours == "block_4x4.conv_1" else 9
      in_dense = ours == "block_4x4.dense"
      layout = SAME if in_dense else _right_vector(places)
      normed[f"{ours}.v"] = Source(f"{layer}.weight_v", layout)
    else:
      normed[path] = source
  return normed


def _right_vector(places: int) -> Layout:
  """Return the layout of v: (I, kh, kw) flattened there, (kh, kw, I) here."""
  return Layout(lambda shape: shape, lambda v: v.reshape(-1, places).T.ravel())
