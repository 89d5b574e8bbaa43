"""List the commands."""

import ast
from pathlib import Path


def main() -> None:
  """Print each command with the first line of its docstring."""
  print("usage: python -m msggan_jax.COMMAND --help")
  for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    print(f"  {path.stem:10} {docstring.splitlines()[0]}")


if __name__ == "__main__":
  main()
