"""Files of one JSON object a line: stats.jsonl and metrics.jsonl of a run."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msggan_jax.runtime import files

METRICS_FILE = "metrics.jsonl"  # of a run


def append(path: Path, row: Mapping[str, Any]) -> None:
  """Append a row, on a line of its own, and sync it to disk."""
  line = json.dumps(row).encode() + b"\n"
  with files.naming(path), path.open("ab+") as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      # A kill or a full disk may have cut the row before.
      line = line if file.read() == b"\n" else b"\n" + line
    file.write(line)
    file.flush()
    os.fsync(file.fileno())


def scan(path: Path) -> Iterator[dict[str, Any] | None]:
  """Yield a file's rows, none if there is no file; None for a damaged one."""
  if not path.is_file():
    return
  with path.open(errors="replace") as file:
    for line in file:
      yield parse(line)


def read(path: Path) -> list[dict[str, Any]]:
  """Return all rows but damaged ones, such as one cut short by a kill."""
  return [row for row in scan(path) if row is not None]


def read_steps(path: Path) -> Iterator[dict[str, Any]]:
  """Yield a run's rows, each with a step; those without one are damaged."""
  return (row for row in scan(path) if row is not None and _has_step(row))


def drop_after(path: Path, step: int) -> None:
  """Drop damaged rows, and those of later steps, which a run rewrites."""
  if not path.is_file():
    return
  lines = path.read_text(errors="replace").splitlines(keepends=True)
  kept = [
    line.rstrip("\n") + "\n"
    for line in lines
    if (row := parse(line)) and _has_step(row) and row["step"] <= step
  ]
  if kept != lines:
    files.write(path, "".join(kept))


def _has_step(row: dict[str, Any]) -> bool:
  return isinstance(row.get("step"), int)


def parse(text: str) -> dict[str, Any] | None:
  """Return a JSON object; None if the text is something else."""
  try:
    row = json.loads(text)
  except (ValueError, RecursionError):
    return None
  return row if isinstance(row, dict) else None
