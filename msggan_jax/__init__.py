"""MSG-GAN (Karnewar & Wang, CVPR 2020) in JAX.

Names are loaded when they are first used, so that importing the package is
quick and brings in neither Flax nor TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
  "load_generator": "msggan_jax.checkpoints.trained",
  "load_discriminator": "msggan_jax.checkpoints.trained",
  "to_uint8": "msggan_jax.models.pyramid",
}
_MODULES = {
  "losses": "msggan_jax.algorithm.losses",
  "metrics": "msggan_jax.metrics",
}

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    return getattr(importlib.import_module(_HOMES[name]), name)
  if name in _MODULES:
    return importlib.import_module(_MODULES[name])
  raise AttributeError(f"module 'msggan_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
