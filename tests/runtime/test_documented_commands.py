"""Each command in README, docs, docstrings and scripts is a possible one.

Training commands are checked for the devices they speak of, without training.
"""

import ast
import functools
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

import msggan_jax
from msggan_jax import data
from msggan_jax.config import saved
from msggan_jax.config.resolve import resolve
from msggan_jax.runtime import cli
from tests.commands import run_command
from tests.conftest import load_config
from tests.launch.test_launch import SCRIPTS, launch

ROOT = Path(__file__).parents[2]
PACKAGE = Path(msggan_jax.__file__).parent

# Devices of a machine, where a command does not say how many there are.
ONE_MACHINE = (1, 2, 4, 8)
LOCAL_PATHS = ("folder", "lsun_church")  # sets that need dataset.path

_COMMAND = re.compile(r"\bpython -m msggan_jax\.(\w+)|launch/(\w+)\.sh")


def texts():
  """Yield every place where commands are written, and its text."""
  for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
    yield path.name, path.read_text()
  yield "Makefile", (ROOT / "Makefile").read_text().replace("$(BIN)/", "")
  for path in (*ROOT.glob("configs/**/*.py"), *PACKAGE.glob("*.py")):
    yield path.name, ast.get_docstring(ast.parse(path.read_text())) or ""
  for script in SCRIPTS:
    yield f"{script}.sh", launch(script, "--help").stdout


def commands():
  """Return the commands: where each is, its environment, its words."""
  found = []
  for place, text in texts():
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
      line = line.partition("`. ")[0].strip(" `@")
      line = re.sub(r"\s+\(.*\)$", "", line)  # a remark
      start = _COMMAND.search(line)
      if not start or " -" not in line[start.start() + 10 :] or "<" in line:
        continue
      words = shlex.split(line, comments=True)
      environment = {}
      while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
      found.append((place, environment, words))
  return found


COMMANDS = commands()


def options_of(words):
  """Return flags as a dictionary; a switch is ''."""
  pairs = (word[2:].partition("=") for word in words if word.startswith("--"))
  return {name: value for name, _, value in pairs}


def devices_of(words, environment, config_path):
  """Return the numbers of devices that a command speaks of."""
  options = options_of(words)

  def count(name, default):
    return int(options.get(name, default))

  match words[0]:
    case "launch/slurm.sh":
      return (count("nodes", 1) * count("gpus", 8),)
    case "launch/gke.sh":
      assert math.prod(map(int, options["topology"].split("x"))) == count(
        "hosts", 0
      ) * count("chips", 4)
      return (count("hosts", 0) * count("chips", 4),)
    case "launch/tpu_pod.sh":
      # Of v2, v3, v4 and v5p the name counts cores.
      kind, _, number = options["accelerator_type"].rpartition("-")
      return (
        int(number) if kind in ("v5litepod", "v6e") else int(number) // 2,
      )
    case "launch/local.sh":
      return (count("processes", 2),)
  if "topology" in options:
    return (math.prod(map(int, options["topology"].split(":")[1].split("x"))),)
  if "JAX_NUM_CPU_DEVICES" in environment:
    # A machine with accelerators uses those.
    return (int(environment["JAX_NUM_CPU_DEVICES"]), *ONE_MACHINE)
  # The demo's batch is for two CPU cores; make demo says auto.
  fits_any = "demo" not in config_path or options.get("config.batch_size")
  return ONE_MACHINE if fits_any else (1, 2)


@functools.cache
def known_flags(command):
  text = run_command(command, "--helpxml", code=1)
  return {*re.findall(r"<name>(\w+)<", text)}


def parse_config(words, monkeypatch, tmp_path):
  """Return the configuration as a command would parse it, and its path."""
  config_path = options_of(words)["config"]
  if config_path.startswith("configs/workdir.py:"):
    saved.save_config(load_config("default", "bmsg_gan"), tmp_path)
    old, config_path = config_path, f"configs/workdir.py:{tmp_path}"
    words = [word.replace(old, config_path) for word in words]
  own = flags.FlagValues()
  arguments = [w for w in words if w.startswith("--config")]
  holder = config_flags.DEFINE_config_file(
    "config", flag_values=own, sys_argv=["command", *arguments]
  )
  own(["command", *arguments])
  monkeypatch.setattr(cli.flags, "FLAGS", own)
  return holder.value, config_path


def test_commands_are_found():
  places = {place for place, *_ in COMMANDS}
  assert {"README.md", "scaling.md", "Makefile", "main.py"} <= places
  assert {f"{script}.sh" for script in SCRIPTS} <= places
  # Nothing that looks like a training command is passed over.
  for place, text in texts():
    count = len(re.findall(r"--config=configs/\w+\.py", text))
    found = [w for p, _, words in COMMANDS if p == place for w in words]
    found = [w for w in found if w.startswith("--config=configs/")]
    assert len(found) == count, place


# ml_collections loads configuration files in an old way.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
  ("environment", "words"),
  [pytest.param(e, w, id=f"{p}-{i}") for i, (p, e, w) in enumerate(COMMANDS)],
)
def test_command(environment, words, monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  if words[0].startswith("launch/"):
    script = Path(words[0]).stem
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = launch(script, "--dry_run", *words[1:], PATH=path)
    assert done.returncode == 0, done.stderr
    command, main_words = "main", words[words.index("--") + 1 :]
  else:
    command, main_words = words[2].removeprefix("msggan_jax."), words[3:]
  options = options_of(main_words)
  given = {name for name in options if not name.startswith("config.")}
  assert given <= known_flags(command)
  if "config" not in options:
    return

  # No images are counted, no step is compiled.
  monkeypatch.setattr(data, "count_images", lambda *_: 500)
  config, path = parse_config(main_words, monkeypatch, tmp_path)
  for num_devices in devices_of(words, environment, path):
    if "device_batch_size" in options:
      config.batch_size = int(options["device_batch_size"]) * num_devices
    resolve(
      config,
      num_devices,
      fits=lambda _: True,
      **cli.config_origin(),
    )
  if command in ("main", "prepare"):
    assert config.dataset.name
    assert config.dataset.path or config.dataset.name not in LOCAL_PATHS
