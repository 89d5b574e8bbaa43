"""A prepared set for people: images, classes, duplicates, hold-out."""

from pathlib import Path

from msggan_jax.data import prepared_set
from msggan_jax.data.prepared_set import Metadata

CLASS_SHEETS = "classes"  # folder with a contact sheet for each class

_MOST_CLASSES_SHOWN = 20
_UNBALANCED = 10  # times as many images as another class has


def summary(path: Path) -> str:
  """Describe a prepared set, in a few lines."""
  metadata = prepared_set.read_metadata(path)
  sizes = ", ".join(
    f"{size}: {count:,}" for size, count in metadata.source_sizes.items()
  )
  shape = "{}x{}x{}".format(*metadata.size, metadata.channels)
  lines = [
    f"source:         {metadata.source}",
    f"images:         {metadata.num_images:,} of {shape}",
    f"classes:        {_classes(metadata)}",
    f"shorter sides:  {sizes}",
    f"contact sheet:  {path / prepared_set.CONTACT_SHEET_FILE}",
  ]
  if metadata.num_rejected:
    where = path / prepared_set.REJECTED_FILE
    lines.append(f"rejected:       {metadata.num_rejected:,}, see {where}")
  if metadata.num_duplicates:
    where = path / prepared_set.DUPLICATES_FILE
    lines.append(
      f"duplicates:     {metadata.num_duplicates:,} images resemble others, "
      f"see {where}"
    )
  if metadata.holdout:
    lines.append(
      f"hold-out:       {metadata.num_holdout:,} images, never trained on"
    )
  if warning := imbalance(metadata):
    lines.append(f"warning:        {warning}")
  return "\n".join(lines)


def imbalance(metadata: Metadata) -> str:
  """Return a warning if some classes are much rarer than others, or ""."""
  counts = metadata.class_counts
  if not counts or max(counts) <= _UNBALANCED * min(counts):
    return ""
  rare, often = counts.index(min(counts)), counts.index(max(counts))
  return (
    f"classes are unbalanced: {metadata.class_names[rare]!r} has "
    f"{counts[rare]:,} image(s), {metadata.class_names[often]!r} has "
    f"{counts[often]:,}; rare classes are learned badly, add images or merge "
    "classes"
  )


def _classes(metadata: Metadata) -> str:
  if not metadata.class_counts:
    return str(metadata.num_classes or "none")
  pairs = list(zip(metadata.class_names, metadata.class_counts, strict=True))
  shown = ", ".join(f"{n} {c:,}" for n, c in pairs[:_MOST_CLASSES_SHOWN])
  more = ", ..." if len(pairs) > _MOST_CLASSES_SHOWN else ""
  return f"{len(pairs)} ({shown}{more})"
