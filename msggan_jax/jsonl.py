"""Files of one JSON object a line: stats.jsonl and metrics.jsonl of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append(path: Path, row: Mapping[str, Any]) -> None:
  """Append a row."""
  with path.open("a") as file:
    file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
  """Return the rows; none if there is no file.

  A row cut short by a kill is left out.
  """
  if not path.is_file():
    return []
  rows = map(_parse, path.read_text().splitlines())
  return [row for row in rows if row is not None]


def drop_after(path: Path, step: int) -> None:
  """Drop the rows of later steps, which a resumed run will write again."""
  if not path.is_file():
    return
  lines = path.read_text().splitlines(keepends=True)
  rows = map(_parse, lines)
  kept = [
    line
    for line, row in zip(lines, rows, strict=True)
    if row is not None and row["step"] <= step
  ]
  if kept != lines:
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    temporary.replace(path)


def _parse(line: str) -> dict[str, Any] | None:
  try:
    return json.loads(line)
  except ValueError:
    return None
