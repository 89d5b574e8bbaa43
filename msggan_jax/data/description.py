"""A prepared set in words: its images, skipped files and warnings."""

from collections.abc import Iterable
from pathlib import Path

from msggan_jax.data import prepared_set, reading
from msggan_jax.runtime.errors import counted

_MOST_CLASSES = 20
_MOST_REASONS = 5


def summary(path: Path) -> str:
  """Describe a prepared set, in a few lines."""
  metadata = prepared_set.read_metadata(path)
  shape = "x".join(map(str, metadata.shape))
  lines = [
    f"source:         {metadata.source}",
    f"images:         {metadata.num_images:,} of {shape}",
    f"classes:        {_classes(metadata)}",
    f"contact sheet:  {path / prepared_set.CONTACT_SHEET_FILE}",
  ]
  if value_range := metadata.value_range:
    lines.insert(
      2, f"values:         {value_range.describe()}, as {value_range.dtype}"
    )
  lines += skipped(path)
  if metadata.num_duplicates:
    where = path / prepared_set.DUPLICATES_FILE
    lines.append(
      f"duplicates:     {metadata.num_duplicates:,} images resemble others, "
      f"see {where}"
    )
  if metadata.holdout:
    held = counted(metadata.num_holdout, "image")
    lines.append(f"hold-out:       {held}, never trained on")
  return "\n".join(lines)


def skipped(path: Path) -> list[str]:
  """Return lines about the images and files of a source that a set lacks."""
  metadata = prepared_set.read_metadata(path)
  lines = []
  for what, counts, file in (
    ("skipped", metadata.rejected, prepared_set.REJECTED_FILE),
    ("not read", metadata.unread, prepared_set.UNREAD_FILE),
  ):
    reasons = sorted(counts.items(), key=lambda item: -item[1])
    lines += [f"{n:,} {what}: {why}" for why, n in reasons[:_MOST_REASONS]]
    if (path / file).is_file():
      lines.append(f"all that are {what}: {path / file}")
  return lines


def too_few(name: str, count: int, unread: Iterable[tuple[str, str]]) -> str:
  """Return a sentence: how few images a source has, and its other files."""
  texts = [f"{file} ({why})" for file, why in unread]
  more = f"; not read: {reading.listed(texts, 3)}" if texts else ""
  return f"{name} has {counted(count, 'image') if count else 'no images'}{more}"


def _classes(metadata: prepared_set.Metadata) -> str:
  if not metadata.class_counts:
    return str(metadata.num_classes or "none")
  pairs = zip(metadata.class_names, metadata.class_counts, strict=True)
  texts = (f"{name} {count:,}" for name, count in pairs)
  return f"{metadata.num_classes} ({reading.listed(texts, _MOST_CLASSES)})"
