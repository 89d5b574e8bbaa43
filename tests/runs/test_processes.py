"""Several processes on this machine: the same training, the same end."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from msggan_jax.algorithm import program
from msggan_jax.checkpoints.checkpoint import Checkpoints
from msggan_jax.runtime import jsonl, processes, sharding
from tests.algorithm.runs import assert_same
from tests.commands import run_command
from tests.conftest import load_config, write_noise
from tests.runs.forked import Forked, command, finish, free_port

FIELDS = {
  "num_classes": 0,
  "resolution": 4,
  "latent_size": 8,
  "max_channels": 8,
  "batch_size": 16,
  "stddev_group": 4,
  "total_kimg": 0.032,  # 2 steps
  "log_kimg": 0.016,
  "sample_kimg": 0.016,
  "snapshot_kimg": 0.016,
  "eval_kimg": 0.0,
  "loss": "relativistic_hinge",
  "penalty": "none",  # a third of the time to compile
}


def photos(tmp_path):
  """Return a folder of images; the cats take ten seconds to prepare."""
  folder = tmp_path / "photos"
  return folder if folder.exists() else write_noise(folder, [(8, 8)] * 128)


def start(
  tmp_path,
  workdir,
  num_processes,
  *,
  devices=4,
  launch=False,
  flags=(),
  before=None,
  **fields,
):
  """Start all processes of a run on some images; return them.

  With launch, the script of launch/ starts them, and is returned.
  """
  address = f"127.0.0.1:{free_port()}"
  environment = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices // num_processes),
  }
  fields = FIELDS | fields
  fields |= {
    "dataset.name": "folder",
    "dataset.path": photos(tmp_path),
    "dataset.labels": "none",
    "dataset.data_dir": tmp_path / "data",
  }
  arguments = ["--config=configs/demo.py", f"--workdir={tmp_path / workdir}"]
  arguments += flags
  arguments += [f"--config.{name}={value}" for name, value in fields.items()]
  logs = [tmp_path / f"{workdir}-{i}.log" for i in range(num_processes)]
  if launch:
    script = ["bash", "launch/local.sh", f"--processes={num_processes}"]
    script += ["--restarts=0", f"--python={sys.executable}", "--", *arguments]
    with logs[0].open("w") as file:
      streams = {"stdout": file, "stderr": subprocess.STDOUT}
      return [subprocess.Popen(script, env=os.environ | environment, **streams)]
  job = [f"--coordinator_address={address}", f"--num_processes={num_processes}"]
  started = []
  for i, log in enumerate(logs):
    own = [*job, f"--process_id={i}"] if num_processes > 1 else []
    words = ("main", *arguments, *own)
    started.append(Forked(environment, log, command, *words, before=before))
  return started


def run(tmp_path, workdir, num_processes, **options):
  codes = finish(start(tmp_path, workdir, num_processes, **options))
  logs = "".join(p.read_text() for p in tmp_path.glob(f"{workdir}-*.log"))
  assert set(codes) == {0}, logs


def state_of(tmp_path, workdir, **fields):
  """Return the newest checkpoint of a run, and its rows."""
  config = load_config("demo")
  config.update(FIELDS | fields)
  mesh = sharding.make_mesh(jax.devices()[:1])
  abstract = program.make_program(config, mesh).abstract_state
  with Checkpoints(tmp_path / workdir / "checkpoints") as checkpoints:
    state = jax.device_get(checkpoints.restore(abstract))
  return state, jsonl.read(tmp_path / workdir / "stats.jsonl")


def assert_same_training(ours, reference):
  (state, rows), (other, other_rows) = ours, reference
  assert [row["step"] for row in rows] == [row["step"] for row in other_rows]
  assert set(rows[0]) == set(other_rows[0])
  for row, other_row in zip(rows, other_rows, strict=True):
    for name in ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm"):
      assert row[name] == pytest.approx(other_row[name], rel=1e-4), name
  assert_same(state.ema_params, other.ema_params, tolerance=1e-4)


def test_two_processes_train_as_one(tmp_path):
  run(tmp_path, "one", 1, total_kimg=0.048)
  # For four devices, auto takes 16 instead of the demo's 4.
  run(tmp_path, "two", 2, batch_size="auto")
  flags = f"--workdir={tmp_path / 'one'}", f"--output={tmp_path / 'images'}"
  run_command("sample", *flags)
  assert (tmp_path / "images/4x4/seed0015.png").is_file()
  files = {p.relative_to(tmp_path / "two") for p in tmp_path.glob("two/**/*")}
  assert Path("samples/4x4/000000.032.png") in files
  assert Path("reals.png") in files
  assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1
  # One process with fewer devices resumes a run of two, with its batch.
  fields = {"total_kimg": 0.048, "batch_size": "auto"}
  run(tmp_path, "two", 1, devices=2, **fields)
  two, one = (state_of(tmp_path, name) for name in ("two", "one"))
  assert int(two[0].step) == 3
  assert_same_training(two, one)


@pytest.mark.slow
def test_four_processes_train_as_one(tmp_path):
  fields = {"penalty": "gradient_penalty"}
  run(tmp_path, "one", 1, **fields)
  run(tmp_path, "four", 4, launch=True, **fields)
  four, one = (state_of(tmp_path, name, **fields) for name in ("four", "one"))
  assert_same_training(four, one)


@pytest.mark.slow
def test_a_run_of_two_processes_is_replayed(tmp_path):
  run(tmp_path, "run", 2, total_kimg=0.048)
  run(tmp_path, "run", 2, total_kimg=0.048, flags=["--verify=1,3"])
  log = (tmp_path / "run-0.log").read_text()
  assert "step 2: all " in log and "step 3: all " in log, log
  assert " was " not in log
  start_again = {"total_kimg": 0.048, "flags": ["--verify"]}
  (code,) = finish(start(tmp_path, "run", 1, **start_again))
  log = (tmp_path / "run-0.log").read_text()
  assert "the number of processes was 2, is 1" in log
  assert code in (0, 1) and "Traceback" not in log


def fill_disk():
  """Let no file have more than 8 KiB."""
  resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_full_disk_ends_in_one_sentence(tmp_path, num_processes):
  run(tmp_path, "run", num_processes)
  fields = {"total_kimg": 0.064}
  full = {"before": fill_disk, **fields}
  codes = finish(start(tmp_path, "run", num_processes, **full))
  log = (tmp_path / "run-0.log").read_text()
  assert codes[0] == 2 and 0 not in codes, log
  (line,) = [line for line in log.splitlines() if line.startswith("error: ")]
  assert "File too large" in line and "Traceback" not in log
  run(tmp_path, "run", num_processes, **fields)
  state, rows = state_of(tmp_path, "run", **fields)
  assert int(state.step) == 4
  assert [row["step"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.slow
def test_all_give_up_on_numbers_together(tmp_path):
  fields = {"learning_rate": 1e20}
  for flags in ([], ["--new_randomness"]):
    codes = finish(start(tmp_path, "run", 2, flags=flags, **fields))
    assert codes == [2, 2]
    logs = [(tmp_path / f"run-{i}.log").read_text() for i in (0, 1)]
    assert logs[0].count("error: ") == 1 and "error: " not in logs[1]
    (line,) = [x for x in logs[0].splitlines() if x.startswith("error: ")]
    assert "the run stands at step 0, see " in line
    assert line.endswith(" --new_randomness")
  report = json.loads((tmp_path / "run/not_finite.json").read_text())
  assert [attempt["rollbacks"] for attempt in report["attempts"]] == [0, 1]


def test_half_of_the_flags_is_refused():
  with pytest.raises(ValueError, match="--num_processes and --process_id tog"):
    processes.join(None, 2, None)
  with pytest.raises(ValueError, match="--process_id is 2; .* from 0 to 1"):
    processes.join("127.0.0.1:1", 2, 2)
  with pytest.raises(ValueError, match="=localhost has no port; give such as"):
    processes.join("localhost", 2, 1)
