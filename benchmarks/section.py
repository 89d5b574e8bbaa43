"""The generated section of a page of docs/."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def replace(page: Path, name: str, text: str) -> None:
  """Write lines of text between `<!-- name -->` and `<!-- end of name -->`."""
  begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
  before, found, rest = page.read_text().partition(begin)
  _, found_end, after = rest.partition(end)
  if not (found and found_end):
    raise ValueError(f"{page} has no section {name}")
  page.write_text(before + begin + text + end + after)
