"""The layout: a file is a command, a folder is a part, imports go down."""

import ast
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


def level(path: str) -> int:
  """Return how far down a file is; commands are at the top."""
  part = path.partition("/")[0]
  return LAYERS.index(part) + 1 if part in LAYERS else 0


def imported(path: Path) -> list[str]:
  """Return our modules that a file imports, as paths below the package."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    else:
      continue
    for name in names:
      parts = name.split(".")
      if parts[0] != "msggan_jax":
        continue
      for end in range(len(parts), 1, -1):
        module = "/".join(parts[1:end])
        if f"{module}.py" in PATHS:
          found.append(f"{module}.py")
          break
        if f"{module}/__init__.py" in PATHS:
          found.append(f"{module}/__init__.py")
          break
  return found


IMPORTS = {
  name: imported(path) for name, path in zip(PATHS, FILES, strict=True)
}


def test_imports_go_down():
  for name, others in IMPORTS.items():
    for other in others:
      assert level(other) > 0, f"{name} imports the command {other}"
      assert level(other) >= level(name), f"{name} imports {other}, above it"


def test_no_import_goes_in_a_circle():
  done, open_ = set(), []

  def visit(name):
    assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
    if name in done:
      return
    open_.append(name)
    for other in IMPORTS[name]:
      visit(other)
    open_.pop()
    done.add(name)

  for name in PATHS:
    visit(name)


def test_folders_have_a_layer_and_functions_are_short():
  folders = {path.partition("/")[0] for path in PATHS if "/" in path}
  assert folders == set(LAYERS)
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef):
        assert node.end_lineno - node.lineno < 80, f"{path}: {node.name}"
