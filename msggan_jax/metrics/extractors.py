"""Feature extractors by name: Inception, EfficientNet-Lite0, custom ones."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from msggan_jax.metrics.efficientnet import EfficientNetLite0
from msggan_jax.metrics.frozen_network import Features, Images
from msggan_jax.metrics.inception import Inception
from msggan_jax.metrics.protocols import EFFICIENTNET, INCEPTION, VALUES
from msggan_jax.metrics.value_statistics import ValueStatistics


class Extractor(Protocol):
  """The interface of a feature network."""

  pooled: str  # name of the features for distances
  logits: str | None  # name of the inception score's; None: no logits
  weights_hash: str | None  # None: unknown, so that no statistics are cached

  def features(self, images: Images) -> Features:
    """Compute the features of uint8 images, (N, H, W, C)."""


class Extractors(dict[str, Extractor]):
  """The extractors of one evaluation, each loaded when it is first used.

  Without its weights, one raises with the remedy.
  """

  def __init__(
    self, inception_path: str = "", user: str = "", precision: str = "float32"
  ):
    """Register the extractors without loading them.

    `user` is "module:function"; the function maps uint8 images, (N, H, W, C),
    to features, (N, D), and names the extractor. If it has an attribute
    `weights_hash`, statistics of the reals are cached under it. `precision` is
    that of the built-in networks' activations.
    """
    self._inception_path = inception_path
    dtype = jnp.dtype(precision)
    self.has_inception = bool(inception_path)
    self._user = user
    self._loaders: dict[str, Callable[[], Extractor]] = {
      INCEPTION: lambda: Inception.from_file(inception_path, dtype),
      EFFICIENTNET: lambda: EfficientNetLite0.from_package(dtype),
    }
    if user:
      module, _, function = user.partition(":")
      if not module or not function.isidentifier():
        raise ValueError(f"extractor is {user!r}; give module:function")
      self._loaders[function] = lambda: _UserExtractor(module, function)

  @property
  def names(self) -> tuple[str, ...]:
    """Names of all extractors, Inception first."""
    return tuple(self._loaders)

  def check_names(self, names: str | Sequence[str]) -> None:
    """Raise ValueError if a user's function is given, but no metric names it.

    The default metrics are of the built-in networks.
    """
    if self._user and not names:
      function = self.names[-1]
      raise ValueError(
        f"extractor is {self._user!r}, but no metrics are named; choose such "
        f"as fd_{function}_10k_full or kid_{function}"
      )

  def __missing__(self, name: str) -> Extractor:
    path = self._inception_path
    if name == INCEPTION and not Path(path).is_file():
      reason = f"not {path}" if path else "none is named"
      raise FileNotFoundError(_missing_inception(reason))
    of_values = {VALUES: ValueStatistics}
    self[name] = (self._loaders | of_values)[name]()
    return self[name]


class _UserExtractor:
  pooled = "features"
  logits = None

  def __init__(self, module: str, function: str):
    try:
      self._function = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
      raise ValueError(f"extractor {module}:{function}: {error}") from error
    self.weights_hash = getattr(self._function, "weights_hash", None)

  def features(self, images: Images) -> Features:
    features = np.asarray(self._function(np.asarray(images)), np.float32)
    if features.ndim != 2 or len(features) != len(images):
      raise ValueError(
        f"the extractor made {features.shape} of {len(images)} images; it must "
        "return (N, D)"
      )
    return {self.pooled: features}


def _missing_inception(reason: str) -> str:
  return (
    f"FID, KID and IS need Inception's weights, {reason}: put "
    "pt_inception-2015-12-05-6726825d.pth (release fid_weights of "
    "mseitzer/pytorch-fid, or torch-fidelity's file of the same weights) "
    "anywhere and name it in --inception=FILE or config.inception_path; or do "
    f"without it: --metrics=fd_{EFFICIENTNET}_10k_full,kid_{EFFICIENTNET}_10k"
  )
