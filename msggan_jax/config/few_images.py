"""image_folder.py:few_images: values of some fields by the number of images."""

import math
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from msggan_jax.algorithm import augment
from msggan_jax.config.fields import AUTO, SAME
from msggan_jax.runtime.errors import counted

_PHASES = ("grow_stable_kimg", "grow_fade_kimg")
# Fields that `choose` sets, or set in older versions.
CHOSEN = (
  *("augment", "augment_strength", "augment_target", "augment_kimg"),
  *("batch_size", "total_kimg", "ema_decay", "ema_kimg", "ema_kimg_end"),
  *("loss", "penalty", "penalty_derivatives", "r1_gamma"),
  *_PHASES,
)


# Below a number of images: augmentation, source.
_RULES = (
  (1_000, "diffaugment", "Zhao et al. 2020 with 100 images"),
  (100_000, "ada", "Karras et al. 2020, whom it helps below 30,000"),
  (math.inf, "none", "enough images, Karras et al. 2020"),
)
_SHORTEST_KIMG = 200.0

Chosen = dict[str, tuple[Any, str]]  # field -> its value and the reason


def choose(
  config: ConfigDict,
  num_images: int,
  given: Collection[str] = (),
  unit: int = 1,
  file_total_kimg: float | None = None,
) -> Chosen:
  """Choose augmentation, batch, EMA and length for a number of images.

  Fields that are `given` keep their values, which the others follow: with
  augment_target 0 the strength is fixed, and loss and strength are the
  config's. The batch is a multiple of `unit`. Stages are those of a run of
  `file_total_kimg`, by default the config's.
  """
  images = counted(num_images, "image")
  policy, chosen = config.augment, Chosen()
  if policy == AUTO:
    policy, source = next(x for below, *x in _RULES if num_images < below)
    chosen["augment"] = (policy, f"{images} ({source})")
  size = max(num_images // unit, 1) * unit
  if "batch_size" not in given and size < config.batch_size:
    chosen["batch_size"] = (size, f"{images}, in multiples of {unit}")
  total = config.total_kimg
  why = f"the config's; {images}"
  if "total_kimg" not in given:
    total = min(max(float(num_images), _SHORTEST_KIMG), total)
    why = (
      f"1,000 passes over {images} (the authors' advice), from "
      f"{_SHORTEST_KIMG:g} to the config's {config.total_kimg:g}"
    )
  chosen["total_kimg"] = (total, why)
  share = total / (file_total_kimg or config.total_kimg)
  if config.grow_from and share < 1:
    why = "as much of the run as the config's"
    names = [name for name in _PHASES if name not in given]
    chosen |= {name: (config[name] * share, why) for name in names}
  fixed = "augment_target" in given and config.augment_target == 0
  if policy != augment.NONE and not fixed:
    chosen |= _adaptive(config, policy, total, given)
  elif config.augment_strength > (limit := augment.HIGHEST[policy]):
    chosen["augment_strength"] = (limit, f"the limit of {policy}")
  if not config.ema_decay:  # the average forgets a short run's first pictures
    why = "a fiftieth of the run at most (ours)"
    for name in ("ema_kimg", "ema_kimg_end"):
      if config[name] != SAME:
        chosen[name] = (min(config[name], total / 50), why)
  return chosen


def _adaptive(
  config: ConfigDict, policy: str, total_kimg: float, given: Collection[str]
) -> Chosen:
  """Choose an adaptive strength, and a loss that allows it."""
  held_out, chosen = bool(config.augment_holdout), Chosen()
  if not (held_out or config.loss in augment.BOUNDARIES or "loss" in given):
    why = f"an adaptive strength needs a zero, which {config.loss} lacks"
    chosen["loss"] = ("logistic", why)
    if config.penalty not in ("r1", "r2", "r1_r2") and "penalty" not in given:
      why = "as our best recipe with it; gamma is the config's"
      chosen |= {
        "penalty": ("r1", why),
        "penalty_derivatives": ("partial", why),
      }
  limit, target = augment.HIGHEST[policy], 0.5 if held_out else 0.6
  kimg = min(config.augment_kimg, total_kimg / 4)
  return chosen | {
    "augment_strength": (limit, "the limit of an adaptive strength"),
    "augment_target": (target, "adaptive (Karras et al. 2020)"),
    "augment_kimg": (kimg, "a quarter of the run at most (ours)"),
  }
