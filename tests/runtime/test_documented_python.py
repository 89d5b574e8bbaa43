"""The Python of README, docs and the notebook runs as it is printed."""

import json
import re
from pathlib import Path

import pytest

from msggan_jax.sharing import portable

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page):
  return _BLOCK.findall(page.read_text())


PAGES = [
  page
  for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
  if blocks(page)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  if page.name == "export.md":  # its command has written this
    portable.write("cats", Path("cats.stablehlo"), "stablehlo")
  names = {}
  for block in blocks(page):
    if "onnxruntime" in block:  # has an environment of its own
      continue
    exec(compile(block, page.name, "exec"), names)
  if page.name == "README.md":
    assert names["images"].shape == (16, 32, 32, 3)


@pytest.mark.slow
def test_the_cells_of_the_notebook_run():
  pytest.importorskip("matplotlib").use("agg")
  notebook = json.loads((ROOT / "docs/quickstart.ipynb").read_text())
  names = {}
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
  assert names["walk"].shape[0] == 8
  last = names["features"](names["fakes"])
  assert names["kernel_distance"](last, names["reference"]) < 0.2
