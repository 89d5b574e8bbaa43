"""Launch scripts: what they ask of the clusters' tools, exit codes, signals.

Recorders stand in for the tools.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPTS = {
  "local": f"--python={sys.executable}",
  "slurm": "--nodes=2 --gpus=4",
  "tpu_pod": "--name=run --zone=zone --accelerator_type=v5litepod-64 "
  "--runtime_version=v2-alpha-tpuv5-lite --nfs=10.0.0.2:/share",
  "gke": "--name=run --image=image --accelerator=tpu-v5-lite-podslice "
  "--topology=4x8 --hosts=8 --claim=shared",
}
MAIN = ["--config=x.py", "--workdir=a b", '--config.model="it\'s $(date)"']
PATH = "/usr/local/bin:/usr/bin:/bin"

RECORDER = """#!/bin/sh
folder=$(dirname "$0")
# Ended by 036, words by 037; one write a call.
printf '%s\\037' "$(basename "$0")" "$@" "$(printf '\\036')" >> "$folder/calls"
next() {  # prints the next line of a file; the last one stays
  head -n 1 "$folder/$1"
  [ "$(wc -l < "$folder/$1")" -lt 2 ] || sed -i 1d "$folder/$1"
}
"""


def install(folder, **tools):
  """Write recorders that go on with the given lines of sh; return PATH."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, lines in tools.items():
    (folder / name).write_text(RECORDER + lines + "\n")
    (folder / name).chmod(0o755)
  return f"{folder}:{PATH}"


def calls(folder, tool):
  """Return a tool's calls."""
  made = (folder / "calls").read_text().split("\x1e\x1f")[:-1]
  made = [call.split("\x1f")[:-1] for call in made]
  return [call for call in made if call[0] == tool]


def launch(script, *arguments, path=PATH, **environment):
  return subprocess.run(
    ["bash", f"launch/{script}.sh", *arguments],
    capture_output=True,
    text=True,
    env={"PATH": path} | environment,
  )


def shellcheck(*arguments):
  tool = Path(sys.executable).parent / "shellcheck"
  done = subprocess.run([tool, *arguments], capture_output=True)
  assert done.returncode == 0, done.stdout.decode()


def test_shellcheck():
  paths = sorted(map(str, Path("launch").glob("*.sh")))
  assert len(paths) == 1 + len(SCRIPTS)
  shellcheck("-x", "--source-path=SCRIPTDIR", *paths)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_dry_run_and_bad_input(script, tmp_path):
  tools = dict.fromkeys(("sbatch", "gcloud", "git", "kubectl"), "")
  path, given = install(tmp_path, **tools), SCRIPTS[script].split()
  done = launch(script, "--help")
  assert done.returncode == 0
  for flag in given:
    assert f"  {flag.partition('=')[0]}=" in done.stdout
  done = launch(script, *given, "--dry_run", "--", *MAIN, path=path)
  assert (done.returncode, done.stderr) == (0, "")
  assert "--workdir=a b" in done.stdout
  assert not (tmp_path / "calls").exists()
  bad = [["--restarts=08"]]
  bad += {"gke": [["--hosts=two"]], "slurm": [["--gpus=0"]]}.get(script, [])
  numbers = [[*given, *flags, "--", *MAIN] for flags in bad]
  for arguments in (["--no_such=3"], ["word"], given, *numbers):
    done = launch(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: .+\n", done.stderr)


def test_local_shares_the_gpus(tmp_path):
  lines = '[ $1 = -c ] && echo 1 || echo $CUDA_VISIBLE_DEVICES $5 >> "$0.gpus"'
  path = install(tmp_path, python=lines)
  gpus = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
  assert launch("local", "--", *MAIN, path=path, **gpus).returncode == 0
  shares = (tmp_path / "python.gpus").read_text().splitlines()
  assert sorted(shares) == ["0,1 --process_id=0", "2,3 --process_id=1"]
  done = launch("local", "--processes=3", "--", *MAIN, path=path, **gpus)
  assert done.returncode == 2


@pytest.mark.parametrize(
  ("codes", "started", "code"),
  [("9 0", 2, 0), ("9", 3, 9), ("2", 1, 2), ("75", 1, 75)],
)
def test_local_starts_again_after_a_failure(tmp_path, codes, started, code):
  (tmp_path / "codes").write_text(codes.replace(" ", "\n") + "\n")
  path = install(tmp_path, python="[ $1 = -c ] && echo 1 || exit $(next codes)")
  flags = ["--processes=1", "--restarts=2", "--", *MAIN]
  done = launch("local", *flags, path=path)
  assert done.returncode == code
  trainings = [call for call in calls(tmp_path, "python") if call[1] == "-m"]
  assert len(trainings) == started
  assert trainings[0][-3:] == MAIN
  assert (codes[0] == "9") == ("code 9 after attempt 1 of 3" in done.stderr)


def test_local_passes_a_signal_on(tmp_path):
  """The second process stops the script once both can be stopped."""
  lines = """[ $1 = -c ] && echo 1 && exit
trap 'exit 75' TERM
exec 3<>"$folder/held"
case $5 in
  --process_id=0) echo > "$folder/ready" ;;
  --process_id=1) read -r _ < "$folder/ready"; kill -TERM $PPID ;;
esac
read -r _ <&3"""
  for fifo in ("held", "ready"):
    os.mkfifo(tmp_path / fifo)
  done = launch("local", "--", *MAIN, path=install(tmp_path, python=lines))
  assert done.returncode == 75
  assert len(calls(tmp_path, "python")) == 3


TEXT = [*MAIN, "--config.x=two\nlines"]
# The task that the job's signal finds; it ends with the code that it reads.
SIGNALLED = """exec 3<>"$folder/held"
kill -TERM $PPID
read -r code <&3
exit $code"""
# As srun, it runs two tasks and returns the largest code.
TASKS = """shift 2
largest=0
for task in 0 1; do
  "$@" || { code=$?; [ $code -lt $largest ] || largest=$code; }
done
exit $largest"""


@pytest.fixture
def slurm(tmp_path):
  """A folder with Slurm's tools, and its job's script."""
  for fifo in ("held", "asleep"):
    os.mkfifo(tmp_path / fifo)
  path = install(
    tmp_path,
    sbatch="",
    srun=TASKS,
    python="exit $(next codes)",
    squeue="next state",
    scontrol="",
    scancel='echo 75 1<>"$folder/held"',
    sleep='read -r _ < "$folder/asleep"',
  )
  (tmp_path / "state").write_text("RUNNING\n")
  flags = [*SCRIPTS["slurm"].split(), "--cpus=6", "--restarts=4", "--", *TEXT]
  done = launch("slurm", *flags, path=path)
  assert (done.returncode, done.stderr) == (0, "")
  (command,) = calls(tmp_path, "sbatch")
  assert {"--nodes=2", "--ntasks-per-node=4", "--requeue"} < set(command)
  (tmp_path / "batch").write_text(command[-1].removeprefix("--wrap="))
  shellcheck("--shell=sh", "--severity=warning", tmp_path / "batch")
  return tmp_path


def run_batch(folder, **environment):
  """Run the job's script as Slurm does; return its code."""
  with subprocess.Popen(
    ["sh", folder / "batch"],
    env={"PATH": f"{folder}:{PATH}", "SLURM_JOB_ID": "7"} | environment,
    stdout=subprocess.PIPE,
  ) as job:
    code = job.wait()
    # What still watches the job sees only now that it has ended.
    watching = os.open(folder / "asleep", os.O_RDWR)
    os.write(watching, b"\n")
    job.stdout.read()
    os.close(watching)
  return code


@pytest.mark.parametrize(
  ("codes", "code", "state", "restarts", "requeued"),
  [
    ("0 0", 0, "RUNNING", 0, 0),
    ("2 134", 2, "RUNNING", 0, 0),  # JAX aborts the second process
    ("134 134", 134, "RUNNING", 0, 1),
    ("1 0", 1, "RUNNING", 0, 1),
    ("75 75", 75, "RUNNING", 3, 1),
    ("75 75", 75, "RUNNING", 4, 0),  # --restarts=4
    ("75 75", 75, "COMPLETING", 0, 0),  # canceled
  ],
)
def test_slurm_requeues_what_may_go_better(
  slurm, codes, code, state, restarts, requeued
):
  (slurm / "codes").write_text(codes.replace(" ", "\n") + "\n")
  (slurm / "state").write_text(f"{state}\n")
  assert run_batch(slurm, SLURM_RESTART_COUNT=str(restarts)) == code
  (train,) = calls(slurm, "srun")
  assert "--cpus-per-task=6" in train  # srun does not inherit the job's
  first, second = calls(slurm, "python")
  assert first == second == train[7:]
  assert train[7:11] == ["python", "-m", "msggan_jax.main", "--distributed"]
  assert train[11:] == TEXT
  assert calls(slurm, "scontrol") == requeued * [["scontrol", "requeue", "7"]]


def test_slurm_signals_the_processes_and_requeues_once(slurm):
  install(slurm, srun=SIGNALLED)
  assert run_batch(slurm) == 75
  assert calls(slurm, "scancel") == [["scancel", "--signal=TERM", "7"]]
  assert calls(slurm, "scontrol") == [["scontrol", "requeue", "7"]]


def test_slurm_requeues_a_job_that_does_not_stop(slurm):
  end = 'echo 137 1<>"$folder/held"'
  install(slurm, srun=SIGNALLED, scancel="", sleep="", scontrol=end)
  assert run_batch(slurm) == 137
  assert calls(slurm, "scontrol")[0] == ["scontrol", "requeue", "7"]
  ((_, patience),) = calls(slurm, "sleep")
  (command,) = calls(slurm, "sbatch")
  (notice,) = re.findall(r"--signal=B:TERM@(\d+)", " ".join(command))
  assert 0 < int(patience) < int(notice)


GCLOUD = """case $* in
  *describe*) next states ;;
  *create*) exit $(next creates) ;;
  *'--command=cd msggan_jax'*) exit $(next codes) ;;
esac"""


def tpu_pod(folder, *, states, codes, creates="0", restarts=100):
  answers = {"states": states, "codes": codes, "creates": creates}
  for name, lines in answers.items():
    (folder / name).write_text(lines.replace(" ", "\n") + "\n")
  path = install(folder, gcloud=GCLOUD, git="", sleep="")
  flags = [*SCRIPTS["tpu_pod"].split(), f"--restarts={restarts}", "--", *MAIN]
  return launch("tpu_pod", *flags, path=path)


def test_tpu_pod_starts_again_with_growing_pauses(tmp_path):
  # The TPU is created at first, and taken away after the first attempt.
  states = "ABSENT ACTIVE SUSPENDED ABSENT WAITING_FOR_RESOURCES ACTIVE"
  done = tpu_pod(tmp_path, states=states, codes="1 1 75 0")
  assert done.returncode == 0, done.stderr
  assert "code 75, attempt 3 of 101" in done.stderr
  made = calls(tmp_path, "gcloud")
  kinds = [call[4] for call in made]
  assert [kinds.count(x) for x in ("create", "delete", "scp")] == [2, 1, 4]
  pauses = [call[1] for call in calls(tmp_path, "sleep")]
  assert [secs for secs in pauses if secs != "30"] == ["10", "20", "40"]
  install = made[-2][-1].removeprefix("--command=")
  subprocess.run(["bash", "-nc", install], check=True)  # its syntax
  train = made[-1][-1].removeprefix("--command=cd msggan_jax && ")
  assert shlex.split(train)[-4:] == ["--distributed", *MAIN]


def test_tpu_pod_survives_a_cloud_that_does_not_answer(tmp_path):
  for states in ("WAITING_FOR_RESOURCES ABSENT ACTIVE", "ACTIVE ABSENT ACTIVE"):
    done = tpu_pod(tmp_path, states=states, codes="1 0", creates="1")
    assert done.returncode == 0, done.stderr
  wrong = tpu_pod(tmp_path, states="ABSENT", codes="0", creates="1")
  assert wrong.returncode == 1  # such as a type that there is not


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (1, 3)])
def test_tpu_pod_gives_up(tmp_path, code, attempts):
  done = tpu_pod(tmp_path, states="ACTIVE", codes=str(code), restarts=2)
  assert done.returncode == code
  kinds = [call[4] for call in calls(tmp_path, "gcloud")]
  assert kinds.count("scp") == attempts
  assert len(calls(tmp_path, "git")) == 1


def test_gke(tmp_path):
  path = install(tmp_path, kubectl='cat > "$folder/manifest"')
  done = launch("gke", *SCRIPTS["gke"].split(), "--", *MAIN, path=path)
  assert (done.returncode, done.stderr) == (0, "")
  assert calls(tmp_path, "kubectl") == [["kubectl", "apply", "-f", "-"]]
  manifest = yaml.safe_load((tmp_path / "manifest").read_text())
  job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"]["values"] == [2]  # code 2 would come again
  assert job["parallelism"] == job["completions"] == 8
  pod = job["template"]["spec"]
  assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
  (container,) = pod["containers"]
  assert container["args"] == ["--distributed", *MAIN]
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
