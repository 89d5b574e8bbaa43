"""Data: prepare a source of images once, then load batches of it."""

from msggan_jax.data.description import skipped, summary
from msggan_jax.data.loader import make_loader
from msggan_jax.data.preparation import (
  OutOfDate,
  check_classes,
  count_classes,
  count_images,
  prepare,
  prepare_of_run,
)
from msggan_jax.data.prepared_set import (
  Metadata,
  PreparedSet,
  open_prepared,
  read_labels,
)

__all__ = [
  "Metadata",
  "OutOfDate",
  "PreparedSet",
  "check_classes",
  "count_classes",
  "count_images",
  "make_loader",
  "open_prepared",
  "prepare",
  "prepare_of_run",
  "read_labels",
  "skipped",
  "summary",
]
