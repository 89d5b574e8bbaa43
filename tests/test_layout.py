"""The layout: a file is a command, a folder is a part, imports go down."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "msggan_jax"

# From the top to the bottom; `docs/architecture.md` draws it.
LAYERS = (
  "training",
  "reporting",
  "sampling",
  "planning",
  "metrics",
  "sharing",
  "checkpoints",
  "configs",
  "config",
  "algorithm",
  "data",
  "models",
  "kernels",
  "runtime",
)
FILES = sorted(PACKAGE.rglob("*.py"))
PATHS = [str(path.relative_to(PACKAGE)) for path in FILES]
MODULES = {x.removesuffix(".py").removesuffix("/__init__"): x for x in PATHS}


def level(path: str) -> int:
  """Return how far down a file is; commands are at the top."""
  part = path.partition("/")[0]
  return LAYERS.index(part) + 1 if part in LAYERS else 0


def imported(path: Path) -> list[str]:
  """Return our modules that a file imports, as paths below the package."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import | ast.ImportFrom):
      module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
      for alias in node.names:
        name = f"{module}{alias.name}".removeprefix("msggan_jax.")
        name = name.replace(".", "/")
        found.append(MODULES.get(name) or MODULES.get(name.rpartition("/")[0]))
  return [name for name in found if name]


IMPORTS = {
  name: imported(path) for name, path in zip(PATHS, FILES, strict=True)
}


def test_imports_go_down():
  for name, others in IMPORTS.items():
    for other in others:
      assert level(other) > 0, f"{name} imports the command {other}"
      assert level(other) >= level(name), f"{name} imports {other}, above it"


def test_no_import_goes_in_a_circle():
  graphlib.TopologicalSorter(IMPORTS).prepare()  # its error names the circle


def test_folders_have_a_layer_and_functions_are_short():
  folders = {path.partition("/")[0] for path in PATHS if "/" in path}
  assert folders == set(LAYERS)
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef):
        assert node.end_lineno - node.lineno < 80, f"{path}: {node.name}"
