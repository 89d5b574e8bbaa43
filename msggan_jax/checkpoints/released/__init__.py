"""Trained generators in the package, each with a card of how it was made.

`benchmarks/release.py` writes both files of a name.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> list[str]:
  """Return the names of the released generators."""
  return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def card(name: str) -> str:
  """Return a released generator's card, in Markdown."""
  return (_FOLDER / f"{name}.md").read_text()


def find(source: str | Path) -> Path:
  """Return a released generator's file for its name.

  Args:
    source: A name, or a run's folder or a file: if it exists, it comes first.

  Returns:
    The file of the released generator, or `source` as it is.

  Raises:
    FileNotFoundError: If a bare word is neither a folder, a file nor a name.
  """
  path = Path(source)
  if path.exists() or len(path.parts) != 1:
    return path
  if path.name in names():
    return _FOLDER / f"{path.name}.safetensors"
  if path.suffix:
    return path
  raise FileNotFoundError(
    f"{source} is not the workdir of a run: it does not exist; released "
    f"generators: {', '.join(names()) or 'none'}"
  )
