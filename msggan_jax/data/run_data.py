"""The data set that a run was trained on: `data.json` in its workdir."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from msggan_jax.data import fingerprint, prepared_set, values
from msggan_jax.runtime import files

_FILE = "data.json"


@dataclasses.dataclass(frozen=True)
class RunData:
  """What a run's images were, and the names of its classes."""

  content_hash: str = ""  # of a part of a prepared set; empty: not known
  class_names: tuple[str, ...] | None = None  # None: not known
  path: str = ""  # of the prepared set
  # Of `values.Range`; empty of pictures.
  values: dict[str, Any] = dataclasses.field(default_factory=dict)

  def is_there(self) -> bool:
    """Return whether the prepared set is where it was, and the same."""
    path = Path(self.path)
    try:
      return prepared_set.is_prepared(path) and (
        self.content_hash == prepared_set.content_hash(path)
      )
    except OSError:  # such as another user's
      return False

  def changes(self, prepared: prepared_set.PreparedSet) -> list[str]:
    """Return in which ways a set is another one than the run's, in words."""
    ours, changes = prepared.metadata, []
    if self.class_names is not None:
      changes += fingerprint.of_classes(self.class_names, ours.class_names)
      if values.from_dict(self.values, ours.channels) != ours.value_range:
        changes.append("its values have another range")
    if self.content_hash not in ("", ours.content_hash):
      changes.append("its images are others")
    return changes

  def write(self, workdir: Path) -> None:
    """Write it into a workdir."""
    text = json.dumps(dataclasses.asdict(self), indent=1)
    files.write(workdir / _FILE, text + "\n")


def of(prepared: prepared_set.PreparedSet) -> RunData:
  """Return what a run needs to know of a set again."""
  metadata = prepared.metadata
  return RunData(
    metadata.content_hash,
    metadata.class_names,
    str(prepared.path.absolute()),
    metadata.value_range.as_dict() if metadata.value_range else {},
  )


def read(workdir: Path) -> RunData | None:
  """Read it from a workdir; None if an older run lacks it."""
  try:
    fields = json.loads((workdir / _FILE).read_bytes())
    return RunData(
      str(fields["content_hash"]),
      tuple(map(str, fields["class_names"])),
      str(fields["path"]),
      fields.get("values", {}),
    )
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f"{workdir / _FILE} is damaged; delete it") from error
