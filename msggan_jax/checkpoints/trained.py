"""Load trained networks; generate and score images.

`released/` holds trained generators, each with a card of how it was made, which
`benchmarks/release.py` writes.
"""

import contextlib
import dataclasses
import json
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from msggan_jax.checkpoints import averages, safetensors_file
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.checkpoints.safetensors_file import DISCRIMINATOR, GENERATOR
from msggan_jax.config.saved import load_config
from msggan_jax.data import pictures, run_data, values
from msggan_jax.models import base_grid, networks
from msggan_jax.models.layers import normalize_latents
from msggan_jax.models.pyramid import (
  Pyramid,
  connected_scales,
  resolutions_up_to,
  to_uint8,
)
from msggan_jax.runtime import sharding

Labels = jax.Array | np.ndarray | Sequence[int]
Noise = str | jax.Array

# A configuration, the network, its parameters and its state.
Loaded = tuple[ConfigDict, networks.Network, networks.Tree, networks.Tree]

_LONGEST = 100  # characters of a class's name
TRUNCATION_CUTOFF = 8  # layers, as the official code has it

_RELEASED = Path(__file__).parent / "released"
# A network -> the checkpoint's fields with its parameters and its state.
_FIELDS = {
  GENERATOR: ("ema_params", "ema_state"),
  DISCRIMINATOR: ("d_params", "d_state"),
}


@dataclasses.dataclass(eq=False)
class _Trained:
  """A network with its weights."""

  config: ConfigDict
  network: networks.Network
  params: networks.Tree
  state: networks.Tree
  class_names: Sequence[str] = ()  # empty if they are unknown
  value_range: values.Range | None = None  # None of pictures
  # Of the checkpoint that it was read from; None of a file or of `ema_kimg`.
  step: int | None = None

  def _apply(self, *args, **kwargs):
    apply = self.network.jitted_apply
    return apply(self.params, self.state, *args, **kwargs)


class Generator(_Trained):
  """A generator with its weights."""

  def sample_latents(self, key: jax.Array, num: int) -> jax.Array:
    """Draw latents, (num, latent_size), on the hypersphere.

    Those of msg-gan-v1 stay normal.
    """
    # float32 in x64 mode, too, where other numbers would be drawn.
    z = jax.random.normal(key, (num, self.config.latent_size), jnp.float32)
    return normalize_latents(z) if self.config.normalize_latents else z

  def labels_in_turn(self, num: int) -> np.ndarray | None:
    """Return the labels 0, 1, ... of `num` images; None if unconditional."""
    classes = self.config.num_classes
    return np.arange(num) % classes if classes else None

  @property
  def bands(self) -> tuple[int, ...]:
    """The channels that the configuration shows."""
    text = self.config.get("bands", "")
    return pictures.parse_bands(text, self.config.channels)

  def view(
    self, images: np.ndarray, bands: Sequence[int] | None = None
  ) -> np.ndarray:
    """Return pictures, uint8, of images in [-1, 1], (..., H, W, C).

    They show `bands` as `pictures.view`; None: those of the configuration.
    """
    bands = self.bands if bands is None else bands
    colors = self.value_range is None
    return pictures.view(to_uint8(images), bands, colors=colors)

  def __call__(
    self,
    z: jax.Array,
    labels: Labels | None = None,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int = TRUNCATION_CUTOFF,
    noise: Noise = "fixed",
  ) -> Pyramid:
    """Generate images at every connected scale.

    Args:
      z: Latents as `sample_latents` draws them, (B, latent_size).
      labels: Classes, (B,), of a conditional generator.
      truncation_psi: MSG-StyleGAN: factor on the distance between w and its
        average; 1: no truncation.
      truncation_cutoff: Number of truncated layers, from 4x4 up.
      noise: MSG-StyleGAN: "fixed" (the stored maps), a key, or a key a latent.

    Returns:
      Images per scale, low to high, (B, r, r, channels) float32, in [-1, 1]
      with a small overshoot of the linear output; see `to_uint8`, and
      `value_range.restore` for values.
    """
    if self.config.model != "stylegan":
      z = _checked("z", z, (self.config.latent_size,))
      if truncation_psi != 1:
        raise ValueError(
          f"truncation_psi is {truncation_psi}, but this generator has no w to "
          f"truncate: config.model is {self.config.model}, not stylegan; "
          "choose 1"
        )
      return self._apply(z, _check_labels(self.config, labels, len(z)))
    w = self.map_latents(z, labels)
    if truncation_psi != 1:
      w = self.truncate(w, truncation_psi, truncation_cutoff)
    return self.synthesize(w, noise=noise)

  def map_latents(
    self, z: jax.Array, labels: Labels | None = None
  ) -> jax.Array:
    """Map latents, (B, latent_size), to w, (B, w_size), not truncated."""
    z = _checked("z", z, (self.config.latent_size,))
    labels = _check_labels(self.config, labels, len(z))
    self._check_has_w()
    return self._apply(z, labels, method="map_latents")

  def truncate(
    self,
    w: jax.Array,
    truncation_psi: float,
    truncation_cutoff: int = TRUNCATION_CUTOFF,
  ) -> jax.Array:
    """Move w toward its average in the first layers, as `__call__`.

    w is (B, w_size) or (B, layers, w_size); returns (B, layers, w_size).
    """
    psi = float(truncation_psi)
    if not math.isfinite(psi):
      raise ValueError(f"truncation_psi is {psi}; choose a finite number")
    return self._apply_to_w("truncate", w, psi, truncation_cutoff)

  def mix_styles(
    self, coarse: jax.Array, fine: jax.Array, crossover: int
  ) -> jax.Array:
    """Join the layers of one w below the crossover with others from there up.

    Both are as in `truncate`; there are two layers a resolution, from 4x4 up.
    Returns (B, layers, w_size), for `synthesize`.
    """
    coarse, fine = (self._apply_to_w("for_layers", w) for w in (coarse, fine))
    return jnp.concatenate([coarse[:, :crossover], fine[:, crossover:]], axis=1)

  def synthesize(self, w: jax.Array, *, noise: Noise = "fixed") -> Pyramid:
    """Generate images from w, (B, w_size) or one a layer, as `__call__`."""
    return self._apply_to_w("synthesize", w, example_keys(noise, len(w)))

  def _apply_to_w(self, method: str, w: jax.Array, *args) -> Any:
    self._check_has_w()
    layers = 2 * len(resolutions_up_to(self.config.resolution))
    sides = (self.config.w_size,)
    w = _checked("w", w, sides, (layers, *sides))
    return self._apply(w, *args, method=method)

  def _check_has_w(self) -> None:
    if self.config.model != "stylegan":
      raise ValueError(
        f"this generator has no w: config.model is {self.config.model}, not "
        "stylegan"
      )


class Discriminator(_Trained):
  """A discriminator with its weights."""

  def __call__(
    self, pyramid: Pyramid, labels: Labels | None = None
  ) -> jax.Array:
    """Score images: logits, (B,); higher means more real.

    Args:
      pyramid: Images per scale, low to high, each (B, r, r, channels), in
        [-1, 1]; B a multiple of the minibatch stddev's group.
      labels: Classes, (B,), of a conditional discriminator.
    """
    config = self.config
    scales = connected_scales(config.resolution, config.connected_scales)
    if len(pyramid) != len(scales):
      raise ValueError(
        f"the pyramid has {len(pyramid)} scales; give {len(scales)}: "
        f"{', '.join(map(str, scales))}"
      )
    grid = base_grid.parse(config.base_grid)
    shapes = [(*base_grid.image_size(r, grid), config.channels) for r in scales]
    pyramid = tuple(
      _checked(f"scale {r}", images, shape)
      for r, images, shape in zip(scales, pyramid, shapes, strict=True)
    )
    labels = _check_labels(config, labels, len(pyramid[0]))
    return self._apply(pyramid, labels)


def load_generator(
  workdir: str | Path,
  step: int | str | None = None,
  *,
  ema_kimg: float | None = None,
) -> Generator:
  """Load the EMA generator of a run.

  Args:
    workdir: The run's folder, a file written by `msggan_jax.export`, or the
      name of a released generator, such as "cats".
    step: A checkpoint's step; "best": the marked one; None: the newest. A file
      has only one.
    ema_kimg: Half-life of another moving average, in thousands of images, made
      from a run's averages (`config.ema_averages`); None: the run's own.

  Raises:
    FileNotFoundError: If the run, the checkpoint or the averages do not exist.
    ValueError: In one sentence, if the source is damaged or impossible.
  """
  workdir = find(workdir)
  if ema_kimg is not None:
    found, loaded = None, averages.reconstruct(workdir, step, ema_kimg)
  else:
    found, networks_by_name = load_networks(workdir, step, [GENERATOR])
    loaded = networks_by_name[GENERATOR]
  return Generator(*loaded, *about_images(workdir, loaded[0]), step=found)


def load_discriminator(
  workdir: str | Path, step: int | str | None = None
) -> Discriminator:
  """Load the discriminator of a run; arguments as in `load_generator`."""
  _, loaded = load_networks(find(workdir), step, [DISCRIMINATOR])
  return Discriminator(*loaded[DISCRIMINATOR])


def load_networks(
  source: Path, step: int | str | None, names: Sequence[str]
) -> tuple[int | None, dict[str, Loaded]]:
  """Load the `GENERATOR`'s moving average, the `DISCRIMINATOR`, or both.

  They are of one checkpoint of a run, whose step is returned too, or of a file.
  """
  device = jax.local_devices()[0]
  if source.is_file():
    if step is not None:
      raise ValueError(
        f"{source} is one file and not a run with checkpoints to choose from"
      )
    read = {name: safetensors_file.read(source, name) for name in names}
    return None, {
      name: (config, network, *jax.device_put(trees, device))
      for name, (config, network, *trees) in read.items()
    }
  config = load_config(source)
  made = {name: safetensors_file.make_network(name, config) for name in names}
  trees = {}
  for name, network in made.items():
    trees |= dict(zip(_FIELDS[name], network.shapes, strict=True))
  abstract = sharding.abstract(trees, jax.sharding.SingleDeviceSharding(device))
  with Checkpoints(source / "checkpoints") as checkpoints:
    step = checkpoints.find(checkpoints.newest_good() if step is None else step)
    loaded = checkpoints.restore(abstract, step)
  at_step = safetensors_file.at_step
  return step, {
    name: at_step(name, config, step, made[name], *(loaded[x] for x in fields))
    for name, fields in _FIELDS.items()
    if name in made
  }


def released() -> list[str]:
  """Return the names of the released generators."""
  return sorted(path.stem for path in _RELEASED.glob("*.safetensors"))


def find(source: str | Path) -> Path:
  """Return a released generator's file for its name, any other source as is.

  A folder or a file comes before a name; FileNotFoundError for another word.
  """
  path = Path(source).expanduser()
  if path.exists() or len(path.parts) != 1:
    return path
  if path.name in released():
    return _RELEASED / f"{path.name}.safetensors"
  if path.suffix:
    return path
  raise FileNotFoundError(
    f"{source} is not the workdir of a run: it does not exist; released "
    f"generators: {', '.join(released()) or 'none'}"
  )


def about_images(
  source: Path, config: ConfigDict
) -> tuple[tuple[str, ...], values.Range | None]:
  """Return the names of a run's or a file's classes, and its values' range.

  () without names, None of pictures. The names may be somebody else's, so only
  their printable characters are returned.
  """
  names, fields = None, None
  with contextlib.suppress(ValueError, RecursionError):  # damaged
    if source.is_file():
      metadata = safetensors_file.read_header(source)[1]
      fields = json.loads(metadata.get(safetensors_file.RANGE, "null"))
      names = json.loads(metadata.get(safetensors_file.CLASS_NAMES, "null"))
    elif known := run_data.read(source):
      names, fields = known.class_names, known.values
  return (
    _printable(names, config.num_classes),
    values.from_dict(fields, config.channels),
  )


def _printable(names: Any, num_classes: int) -> tuple[str, ...]:
  if not isinstance(names, list | tuple) or len(names) != num_classes:
    return ()
  texts = (unicodedata.normalize("NFC", str(name)) for name in names)
  return tuple("".join(filter(str.isprintable, x))[:_LONGEST] for x in texts)


def _checked(name: str, batch: Any, *wanted: tuple[int, ...]) -> Any:
  """Return a batch as an array; ValueError if its shape or type is wrong."""
  array = batch if isinstance(batch, jax.Array) else np.asarray(batch)
  if array.shape[1:] not in wanted or not array.shape[0]:
    texts = (f"(B, {', '.join(map(str, sides))})" for sides in wanted)
    raise ValueError(
      f"{name} has shape {array.shape}; this network needs "
      f"{' or '.join(texts)}, B of 1 or more"
    )
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(f"{name} has type {array.dtype}; give floats")
  return array


def _check_labels(
  config: ConfigDict, labels: Labels | None, num: int
) -> np.ndarray | jax.Array | None:
  """Return `num` labels as an array; raise ValueError if they do not fit.

  Of traced ones only shape and type are known.
  """
  classes = config.num_classes
  if not classes:
    if labels is None:
      return None
    raise ValueError(
      "labels are given, but these networks are unconditional: "
      "config.num_classes is 0"
    )
  wanted = f"give {num} of them, each from 0 to {classes - 1}"
  if labels is None:
    raise ValueError(
      f"these networks are conditional and need labels: {wanted}"
    )
  traced = isinstance(labels, jax.core.Tracer)
  labels = labels if traced else np.asarray(labels)
  if labels.shape != (num,) or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f"labels have shape {labels.shape} and type {labels.dtype}: {wanted}"
    )
  if num and not traced and not 0 <= labels.min() <= labels.max() < classes:
    raise ValueError(
      f"labels range from {labels.min()} to {labels.max()}: {wanted}"
    )
  return labels.astype(np.int32)


def example_keys(noise: Noise, num: int) -> jax.Array | None:
  """Return a key for each of `num` images; None for fixed noise."""
  if isinstance(noise, str) and noise == "fixed":
    return None
  is_key = isinstance(noise, jax.Array) and jnp.issubdtype(
    noise.dtype, jax.dtypes.prng_key
  )
  if is_key and noise.shape == ():
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
      noise, jnp.arange(num)
    )
  if is_key and noise.shape == (num,):
    return noise
  raise ValueError(
    f"noise is {noise!r}; choose 'fixed', a key such as jax.random.key(0), or "
    f"an array of {num} keys"
  )
