"""Cluster scripts against stand-ins of the clusters' tools."""

import os
import signal
import subprocess
import time

import pytest

from tests import stand_ins
from tests.launch.test_launch import MAIN, SCRIPTS, launch


@pytest.fixture
def tools(tmp_path):
  """A folder with the stand-ins, and a Python that ends as told by `code`."""
  folder = tmp_path / "tools"
  stand_ins.install(folder)
  python = tmp_path / "python"
  python.write_text(
    "#!/bin/sh\ntrap 'kill $!; exit 75' TERM\n"
    f'printf "%s\\n" "$@" > {folder}/trained\n'
    f"[ -e {folder}/code ] && exit $(cat {folder}/code)\n"
    "/bin/sleep 20 > /dev/null 2>&1 & wait\n"
  )
  python.chmod(0o755)
  return folder


def environment(tools, **others):
  path = f"{tools}:/usr/local/bin:/usr/bin:/bin"
  root = os.getcwd()
  return {"PATH": path, "PYTHONPATH": root, "HOME": str(tools)} | others


def slurm(tools, *arguments, **others):
  """Start the batch script; return its process, with errors in a file."""
  command = ["bash", "launch/slurm.sh", f"--python={tools.parent}/python"]
  with (tools / "errors").open("w") as errors:
    return subprocess.Popen(
      [*command, "--nodes=2", "--cpus=6", *arguments, "--", *MAIN],
      env=environment(tools, **others),
      stdout=subprocess.DEVNULL,
      stderr=errors,
    )


@pytest.mark.parametrize(
  ("code", "state", "restarts", "requeued"),
  [
    (0, "RUNNING", 0, False),
    (2, "RUNNING", 0, False),
    (1, "RUNNING", 0, True),
    (75, "RUNNING", 3, True),
    (75, "RUNNING", 4, False),  # --restarts=4
    (75, "COMPLETING", 0, False),  # cancelled
  ],
)
def test_slurm_requeues_what_may_go_better(
  tools, code, state, restarts, requeued
):
  (tools / "code").write_text(str(code))
  (tools / "state").write_text(state)
  process = slurm(tools, "--restarts=4", SLURM_RESTART_COUNT=str(restarts))
  assert process.wait(60) == code
  assert (tools / "errors").read_text() == ""
  assert (tools / "cpus").read_text() == "6"
  trained = (tools / "trained").read_text().splitlines()
  assert trained == ["-m", "msggan_jax.main", "--distributed", *MAIN]
  calls = stand_ins.calls(tools, "scontrol")
  assert calls == ([["requeue", "7"]] if requeued else [])


def test_slurm_signals_the_processes_and_requeues(tools):
  (tools / "asleep").touch()
  process = slurm(tools)
  wait_for(tools / "trained")
  os.kill(int((tools / "batch_shell").read_text()), signal.SIGTERM)
  assert process.wait(60) == 75, (tools / "errors").read_text()
  # Nothing stays behind that would requeue the job once more.
  (tools / "asleep").unlink()
  wait_for(tools / "awake")
  time.sleep(0.5)
  assert stand_ins.calls(tools, "scancel") == [["--signal=TERM", "7"]]
  assert stand_ins.calls(tools, "scontrol") == [["requeue", "7"]]


def test_slurm_requeues_a_job_that_does_not_stop(tools):
  python = tools.parent / "python"
  python.write_text(python.read_text().replace("'kill $!; exit 75'", "''"))
  process = slurm(tools)
  wait_for(tools / "trained")
  os.kill(int((tools / "batch_shell").read_text()), signal.SIGTERM)
  deadline = time.monotonic() + 30
  while not stand_ins.calls(tools, "scontrol"):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  (notice,) = [
    word.rpartition("@")[2]
    for word in stand_ins.calls(tools, "sbatch")[0]
    if word.startswith("--signal=B:TERM@")
  ]
  ((patience,),) = stand_ins.calls(tools, "sleep")
  assert 0 < int(patience) < int(notice)
  assert process.poll() is None
  os.kill(int((tools / "task").read_text()), signal.SIGKILL)
  assert process.wait(60) == 137


def wait_for(path):
  deadline = time.monotonic() + 30
  while not path.exists():
    assert time.monotonic() < deadline, f"no {path.name}"
    time.sleep(0.05)


def tpu_pod(tools, *arguments):
  return launch(
    "tpu_pod",
    *SCRIPTS["tpu_pod"],
    *arguments,
    "--",
    *MAIN,
    **environment(tools),
  )


def test_tpu_pod_starts_again_with_growing_pauses(tools):
  (tools / "code").write_text("1\n1\n75\n0\n")
  # The TPU is created at first, and taken away after the first attempt.
  states = "ABSENT ACTIVE SUSPENDED ABSENT WAITING_FOR_RESOURCES ACTIVE"
  (tools / "state").write_text("\n".join(states.split()))
  done = tpu_pod(tools)
  assert done.returncode == 0, done.stderr
  calls = [call[3] for call in stand_ins.calls(tools, "gcloud")]
  assert calls.count("create") == 2
  assert calls.count("delete") == 1
  assert calls.count("scp") == 4
  between = [call[0] for call in stand_ins.calls(tools, "sleep")]
  assert [secs for secs in between if secs != "30"] == ["10", "20", "40"]
  assert "code 75, attempt 3 of 101" in done.stderr


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (1, 3)])
def test_tpu_pod_gives_up(tools, code, attempts):
  (tools / "code").write_text(str(code))
  assert tpu_pod(tools, "--restarts=2").returncode == code
  calls = [call[3] for call in stand_ins.calls(tools, "gcloud")]
  assert calls.count("scp") == attempts


@pytest.mark.parametrize("ready", [False, True])
def test_tpu_pod_prepares_a_worker(tools, tmp_path, ready):
  (tools / "code").write_text("0")
  assert tpu_pod(tools).returncode == 0
  (install, _) = [
    word.removeprefix("--command=")
    for call in stand_ins.calls(tools, "gcloud")
    for word in call
    if word.startswith("--command=")
  ]
  # The worker's own tools, which only write what they are asked for.
  share = tmp_path / "share"
  share.mkdir()
  install = install.replace("/mnt/msggan", str(share / "new"))
  install = install.replace("/sbin/mount.nfs", str(share / "mount.nfs"))
  asked = share / "asked"
  bin_folder = tmp_path / "bin"
  bin_folder.mkdir()
  for name in ("sudo", "python3", "tar", "mountpoint", ".local/bin/uv"):
    path = bin_folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    code = int(name == "mountpoint" and not ready)
    path.write_text(
      f'#!/bin/sh\necho {path.name} "$@" >> {asked}\nexit {code}\n'
    )
    path.chmod(0o755)
  if ready:
    (share / "new").mkdir()
    (share / "mount.nfs").touch(mode=0o755)
  done = subprocess.run(
    ["bash", "-c", install],
    env={"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(bin_folder)},
    cwd=share,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = asked.read_text().splitlines()
  as_root = [line for line in lines if line.startswith("sudo")]
  new = share / "new"
  if ready:
    assert as_root == [f"sudo mkdir -p {new}"]
    return
  assert as_root == [
    "sudo apt-get -o DPkg::Lock::Timeout=900 install -qq -y nfs-common",
    f"sudo mkdir -p {new}",
    f"sudo mount -t nfs 10.0.0.2:/share {new}",
    f"sudo chmod 1777 {new}",
  ]


def test_gke(tools):
  done = launch("gke", *SCRIPTS["gke"], "--", *MAIN, **environment(tools))
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout == "jobset.jobset.x-k8s.io/run created\n"


@pytest.mark.parametrize(
  "command",
  [
    ["sbatch", "--wrap"],
    ["sbatch", "--signal=TERM:B@9", "--wrap=true"],
    ["sbatch", "--restart=9", "--wrap=true"],
    ["sbatch", "--time=2 days", "--wrap=true"],
    ["srun", "--cpus_per_task=2", "true"],
    ["scontrol", "restart", "7"],
    ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "run", "--workers=all"],
    ["gcloud", "compute", "tpus", "create", "run"],
    ["kubectl", "create", "-f", "-"],
  ],
)
def test_stand_ins_refuse_wrong_commands(tools, command):
  done = subprocess.run(command, env=environment(tools), capture_output=True)
  assert done.returncode == 64, done
