"""augment "auto": values of some fields by the number of images."""

from collections.abc import Collection
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from msggan_jax.algorithm.augment import BOUNDARIES
from msggan_jax.models import base_grid
from msggan_jax.models.pyramid import connected_scales

# What `choose` may choose.
CHOSEN = (
  *("augment", "augment_strength", "augment_target", "augment_kimg"),
  *("r1_gamma", "ema_kimg", "total_kimg"),
)


class _Rule(NamedTuple):
  below: float  # images
  augment: str
  strength: float
  source: str


_RULES = (
  _Rule(1_000, "diffaugment", 1.0, "Zhao et al. 2020 with 100 images"),
  _Rule(5_000, "ada", 0.6, "ours, between Zhao et al. and Karras et al. 2020"),
  _Rule(30_000, "ada", 0.4, "ours; Karras et al. 2020 help below 30,000"),
  _Rule(100_000, "ada", 0.1, "ours; Karras et al. 2020 find little use"),
  _Rule(float("inf"), "none", 1.0, "enough images, Karras et al. 2020"),
)
_SHORTEST_KIMG = 200.0


def choose(
  config: ConfigDict, num_images: int, given: Collection[str] = ()
) -> dict[str, tuple[Any, str]]:
  """Choose augmentation, gamma, EMA and length for a number of images.

  With augment_target 0 among the `given` fields, the strength is fixed.

  Returns:
    Field -> its value and the reason.
  """
  if num_images < config.batch_size:
    raise ValueError(
      f"{config.dataset.path or config.dataset.name} has {num_images} "
      f"image(s), fewer than config.batch_size, {config.batch_size}; add "
      "images or choose a smaller batch"
    )
  rule = next(rule for rule in _RULES if num_images < rule.below)
  images = f"{num_images:,} images"
  chosen: dict[str, tuple[Any, str]] = {
    "augment": (rule.augment, f"{images} ({rule.source})"),
    "augment_strength": (rule.strength, f"{images} ({rule.source})"),
  }
  if config.penalty == "r1":
    scales = len(connected_scales(config.resolution, config.connected_scales))
    share = scales if config.penalty_scales == "mean" else 1
    height, width = base_grid.size_of(config)
    gamma = 0.0002 * height * width / config.batch_size * share
    why = "0.0002 pixels / batch (Karras et al. 2020)"
    if share > 1:
      why += f", times {scales} scales whose mean the penalty is"
    chosen["r1_gamma"] = (gamma, why)
  total = min(max(float(num_images), _SHORTEST_KIMG), config.total_kimg)
  chosen["total_kimg"] = (
    total,
    f"1,000 passes over {images} (the authors' advice), from "
    f"{_SHORTEST_KIMG:g} to the config's {config.total_kimg:g}",
  )
  fixed = "augment_target" in given and config.augment_target == 0
  if rule.augment != "none" and config.loss in BOUNDARIES and not fixed:
    # ADA above about 0.8 leaks into G's images (Karras et al. 2020, section
    # 2.2).
    limit = 0.8 if rule.augment == "ada" else rule.strength
    zero = f"{config.loss} has a zero (Karras et al. 2020)"
    kimg = min(config.augment_kimg, total / 4)
    chosen |= {
      "augment_strength": (limit, "the limit of an adaptive strength"),
      "augment_target": (0.6, zero),
      "augment_kimg": (kimg, "a quarter of the run at most (ours)"),
    }
  # The average must forget the first pictures of a short run.
  ema = min(config.ema_kimg, total / 50)
  chosen["ema_kimg"] = (ema, "a fiftieth of the run at most (ours)")
  return chosen
