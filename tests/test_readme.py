"""The shell blocks of the README run in order, in a folder of their own.

Each command is as it stands there, with short settings after its own.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from msggan_jax.data.sources import demo
from tests.commands import run_command
from tests.conftest import write_noise

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_RECIPE = re.compile(r"^demo:.*\n((?:\t.*\n)+)", re.MULTILINE)

# Lines that install: the recipe after the installation, and nothing.
_INSTEAD = {
  "make demo": _RECIPE.search((ROOT / "Makefile").read_text())[1].strip(),
  ". .venv/bin/activate": "",
}
# What makes commands short, by the beginning of the others.
_SHORT = {
  "main": "--config.batch_size=4 --config.total_kimg=0.004 "
  "--config.max_channels=4 --config.latent_size=4 --config.penalty=none "
  "--config.eval_kimg=0",
  "evaluate --workdir": "--metrics=kid_efficientnet_lite0_16",
}


def few_cats():
  """Let the demo have few drawings."""
  demo._CAT_SPLITS = {name: range(20) for name in demo._CAT_SPLITS}


def commands():
  """Return the environment and the words after "python -m" of each command."""
  found = []
  for block in _BLOCK.findall((ROOT / "README.md").read_text()):
    for line in block.replace("\\\n", " ").splitlines():
      line = shlex.join(shlex.split(line, comments=True))
      line = _INSTEAD.get(line, line).replace("\\\n", " ")
      for name, settings in _SHORT.items():
        if f"msggan_jax.{name}" in line:
          line = f"{line} {settings}"
      # As on a machine without settings.
      environment, words = {"JAX_NUM_CPU_DEVICES": "1"}, shlex.split(line)
      while words and "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
      if words:
        python, m, *words = words
        assert (python.rpartition("/")[2], m) == ("python", "-m"), line
        found.append((environment, words))
  return found


@pytest.mark.slow
def test_the_shell_blocks_run_in_order(tmp_path, monkeypatch):
  write_noise(tmp_path / "photos", [(130 + i, 140) for i in range(6)])
  golden = ROOT / "tests" / "golden" / "msg_stylegan_16.pkl"
  shutil.copy(golden, tmp_path / "network-final.pkl")
  monkeypatch.chdir(tmp_path)
  for environment, (module, *flags) in commands():
    name = module.removeprefix("msggan_jax.")
    said = run_command(name, *flags, before=few_cats, **environment)
    if name == "evaluate":
      printed = said
  for path in (
    *("images/32x32/seed0015.png", "images/grid_32x32.png"),
    *("demo.safetensors", "runs/photos/report.html"),
    "runs/churches/config.json",
  ):
    assert (tmp_path / path).is_file(), path
  (row,) = (tmp_path / "runs/demo/metrics.jsonl").read_text().splitlines()
  assert "kid_efficientnet_lite0_16" in json.loads(row)
  assert "images: kid_efficientnet_lite0_16 " in printed
