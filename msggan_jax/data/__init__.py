"""Data: prepare a source of images once, then load batches of it."""

from msggan_jax.data.loader import make_loader, with_holdout
from msggan_jax.data.preparation import (
  check_classes,
  count_images,
  prepare,
  prepare_for,
  prepare_of_run,
  summary,
)
from msggan_jax.data.prepared_set import (
  Metadata,
  PreparedSet,
  open_prepared,
  read_labels,
)
from msggan_jax.data.sources.demo import CatParts, cat_parts

__all__ = [
  "CatParts",
  "Metadata",
  "PreparedSet",
  "cat_parts",
  "check_classes",
  "count_images",
  "make_loader",
  "open_prepared",
  "prepare",
  "prepare_for",
  "prepare_of_run",
  "read_labels",
  "summary",
  "with_holdout",
]
