"""Metrics: FID, KID, IS, precision and recall, stability.

Names are loaded when they are first used: distances need nothing but NumPy.
"""

import importlib
from typing import Any

_HOMES = {
  "EfficientNetLite0": "efficientnet",
  "Evaluator": "evaluator",
  "Extractors": "extractors",
  "Inception": "inception",
  "Stability": "stability",
  "choose": "evaluator",
  "compare": "comparison",
  "frechet_distance": "distances",
  "inception_score": "distances",
  "kernel_distance": "distances",
  "make_evaluator": "evaluator",
  "kernel_distance_of_subsets": "distances",
  "precision_recall": "distances",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    home = importlib.import_module(f"msggan_jax.metrics.{_HOMES[name]}")
    return getattr(home, name)
  raise AttributeError(f"module 'msggan_jax.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
