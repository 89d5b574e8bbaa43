"""The notebook's cells run in order."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs/quickstart.ipynb"


@pytest.mark.slow
def test_the_cells_run(monkeypatch):
  matplotlib = pytest.importorskip("matplotlib")
  matplotlib.use("agg")
  cells = json.loads(NOTEBOOK.read_text())["cells"]
  names = {}
  for cell in cells:
    if cell["cell_type"] == "code":
      code = "".join(cell["source"])
      exec(compile(code, cell["id"], "exec"), names)
  assert names["walk"].shape[0] == 8
  last = names["features"](names["fakes"])
  assert names["kernel_distance"](last, names["reference"]) < 0.2
