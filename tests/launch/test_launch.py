"""Launch scripts: the commands they run, help, bad input."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPTS = {
  "local": [f"--python={sys.executable}"],
  "slurm": ["--nodes=2", "--gpus=4"],
  "tpu_pod": [
    "--name=run",
    "--zone=zone",
    "--accelerator_type=v5litepod-64",
    "--runtime_version=v2-alpha-tpuv5-lite",
    "--nfs=10.0.0.2:/share",
  ],
  "gke": [
    "--name=run",
    "--image=image",
    "--accelerator=tpu-v5-lite-podslice",
    "--topology=4x8",
    "--hosts=8",
    "--claim=shared",
  ],
}
MAIN = ["--config=configs/ffhq.py", "--workdir=a b", '--config.model="x"']


def launch(script, *arguments, **environment):
  return subprocess.run(
    ["bash", f"launch/{script}.sh", *arguments],
    capture_output=True,
    text=True,
    env={"PATH": "/usr/local/bin:/usr/bin:/bin"} | environment,
  )


def dry_run(script, **environment):
  """Return the output of a script's dry run."""
  arguments = [*SCRIPTS[script], "--dry_run", "--", *MAIN]
  done = launch(script, *arguments, **environment)
  assert done.returncode == 0, done.stderr
  return done.stdout


def commands(printed):
  """Return the printed commands, each as a list of words."""
  return [
    subprocess.run(
      ["bash", "-c", f"printf '%s\\0' {command}"],
      capture_output=True,
      text=True,
    ).stdout.split("\0")[:-1]
    for command in printed.splitlines()
  ]


def test_shellcheck():
  paths = sorted(map(str, Path("launch").glob("*.sh")))
  assert len(paths) == 1 + len(SCRIPTS)
  shellcheck = Path(sys.executable).parent / "shellcheck"
  done = subprocess.run(
    [shellcheck, "-x", "--source-path=SCRIPTDIR", *paths], capture_output=True
  )
  assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_bad_input(script):
  done = launch(script, "--help")
  assert done.returncode == 0
  for flag in SCRIPTS[script]:
    assert f"  {flag.partition('=')[0]}=" in done.stdout
  for arguments in (["--no_such=3"], ["word"], SCRIPTS[script]):
    done = launch(script, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_local_shares_the_gpus():
  first, second = commands(dry_run("local", CUDA_VISIBLE_DEVICES="0,1,2,3"))
  assert first[:2] == ["env", "CUDA_VISIBLE_DEVICES=0,1"]
  assert second[:2] == ["env", "CUDA_VISIBLE_DEVICES=2,3"]
  assert first[2:5] == [sys.executable, "-m", "msggan_jax.main"]
  assert first[-3:] == second[-3:] == MAIN
  assert "--process_id=1" in second
  done = launch("local", "--processes=3", "--", *MAIN, CUDA_VISIBLE_DEVICES="0")
  assert done.returncode == 2


def test_local_starts_again_after_a_failure(tmp_path):
  python = tmp_path / "python"
  python.write_text(
    f'#!/bin/sh\n[ $1 = -c ] && exec {sys.executable} "$@"\n'
    f"echo x >> {tmp_path}/calls\n"
    f"[ $(wc -l < {tmp_path}/calls) -gt 1 ] || exit 9\n"
  )
  python.chmod(0o755)
  arguments = ["--processes=1", f"--python={python}", "--", *MAIN]
  done = launch("local", *arguments)
  assert done.returncode == 0
  assert "code 9 after attempt 1 of 4" in done.stderr
  (tmp_path / "calls").unlink()
  assert launch("local", "--restarts=0", *arguments).returncode == 9


def test_slurm():
  (command,) = commands(dry_run("slurm"))
  assert command[0] == "sbatch"
  assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4"} < set(
    command
  )
  script = command[-1].removeprefix("--wrap=")
  assert 'scontrol requeue "$SLURM_JOB_ID"' in script
  srun = next(line for line in script.splitlines() if line.startswith("srun"))
  words = shlex.split(srun.removesuffix("&"))
  assert words[2:6] == ["--cpus-per-task=8", "python", "-m", "msggan_jax.main"]
  assert words[-4:] == ["--distributed", *MAIN]


def test_tpu_pod():
  *others, train, _ = commands(dry_run("tpu_pod"))
  assert [" ".join(command[:5]) for command in others] == [
    "git archive --format=tar.gz --output=/tmp/run.tar.gz HEAD",
    "gcloud compute tpus queued-resources create",
    "gcloud compute tpus tpu-vm scp",
    "gcloud compute tpus tpu-vm ssh",
  ]
  assert "--spot" in others[1]
  assert "--worker=all" in train
  remote = shlex.split(train[-1].removeprefix("--command="))
  assert remote[-4:] == ["--distributed", *MAIN]


def test_gke():
  manifest = yaml.safe_load(dry_run("gke"))
  # Pods of one job stay on one slice, which is one node pool.
  key = "alpha.jobset.sigs.k8s.io/exclusive-topology"
  annotations = {key: "cloud.google.com/gke-nodepool"}
  assert manifest["metadata"]["annotations"] == annotations
  spec = manifest["spec"]
  (jobs,) = spec["replicatedJobs"]
  job = jobs["template"]["spec"]
  # Code 2 would come again.
  assert spec["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"]["values"] == [2]
  assert job["parallelism"] == job["completions"] == 8
  pod = job["template"]["spec"]
  assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
  (container,) = pod["containers"]
  assert container["args"] == ["--distributed", *MAIN]
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  # The container's own disk is lost with it.
  assert container["env"] == [
    {"name": "JAX_COMPILATION_CACHE_DIR", "value": "/data/compiled"}
  ]
  assert container["volumeMounts"][0]["mountPath"] == "/data"
