"""The generated section of a page of docs/, its tables and plots."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent


def replace(page: Path, name: str, text: str) -> None:
  """Write lines of text between `<!-- name -->` and `<!-- end of name -->`."""
  begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
  before, found, rest = page.read_text().partition(begin)
  _, found_end, after = rest.partition(end)
  if not (found and found_end):
    raise ValueError(f"{page} has no section {name}")
  page.write_text(before + begin + text + end + after)


def table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
  """Return the lines of a table from its cells."""
  head = [*head]
  lines = [head, ["---"] * len(head), *rows]
  return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def save(figure: Figure, path: Path) -> None:
  """Write an SVG whose text stays text, with the same bytes each time."""
  style = {"svg.fonttype": "none", "svg.hashsalt": "0"}
  with matplotlib.rc_context(style):
    figure.savefig(path, metadata={"Date": None})
