"""Replace the generated section of a page."""

from pathlib import Path


def replace(page: Path, name: str, text: str) -> None:
  """Write a text between `<!-- name -->` and `<!-- end of name -->`.

  Args:
    page: A Markdown file.
    name: Name of the section.
    text: Its lines, each with its line end.

  Raises:
    ValueError: If the page lacks the section.
  """
  begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
  before, found, rest = page.read_text().partition(begin)
  _, found_end, after = rest.partition(end)
  if not (found and found_end):
    raise ValueError(f"{page} has no section {name}")
  page.write_text(before + begin + text + end + after)
