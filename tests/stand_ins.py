"""Stand-ins of cluster tools, which refuse what the real ones would refuse.

A stand-in is a script named after its tool that calls `main` here. It checks
its arguments against the documented ones, logs them and plays its part:

  sbatch, srun, squeue, scontrol, scancel: Slurm 22.05.8, its manual pages
  gcloud: Google Cloud SDK 528.0.0, `gcloud compute tpus ... --help`
  kubectl: 1.32.4, and JobSet v1alpha2, its custom resource definition

Only options that the launch scripts use are listed. The folder of the stand-ins
holds `calls.jsonl` and small files with which a test directs them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_COUNT = r"[1-9]\d*"
_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_TIME = r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}"

# Options by command: a pattern of the value, or None for a switch.
_OPTIONS = {
  "sbatch": {
    "job-name": ".+",
    "nodes": _COUNT,
    "ntasks-per-node": _COUNT,
    "gpus-per-node": r"([a-z0-9]+:)?\d+",
    "cpus-per-task": _COUNT,
    "time": _TIME,
    "requeue": None,
    "open-mode": "append|truncate",
    "signal": r"([RB]{1,2}:)?[A-Z0-9]+(@\d{1,5})?",
    "wrap": "(?s).+",
  },
  "srun": {"kill-on-bad-exit": "[01]", "cpus-per-task": _COUNT},
  "scancel": {"signal": "[A-Z0-9]+"},
  "squeue": {"noheader": None, "format": "%T", "jobs": r"\d+"},
  "scontrol requeue": {},
  "gcloud compute tpus queued-resources create": {
    "node-id": _NAME,
    "zone": ".+",
    "accelerator-type": r"v\d\w*-\d+",
    "runtime-version": ".+",
    "spot": None,
  },
  "gcloud compute tpus queued-resources delete": {
    "zone": ".+",
    "force": None,
    "quiet": None,
  },
  "gcloud compute tpus queued-resources describe": {
    "zone": ".+",
    "format": r"value\(state\.state\)",
  },
  "gcloud compute tpus tpu-vm scp": {"zone": ".+", "worker": "all"},
  "gcloud compute tpus tpu-vm ssh": {
    "zone": ".+",
    "worker": "all",
    "command": "(?s).+",
  },
  "kubectl apply": {"filename": "-"},
}

# Fields of a JobSet by the path of their object; None: any string.
_JOBSET = {
  "": {"apiVersion", "kind", "metadata", "spec"},
  "metadata": {"name", "annotations"},
  "spec": {"failurePolicy", "replicatedJobs"},
  "spec.failurePolicy": {"maxRestarts", "rules"},
  "spec.failurePolicy.rules": {"name", "action", "onJobFailureReasons"},
  "spec.replicatedJobs": {"name", "replicas", "template"},
}
_TEMPLATE = "spec.replicatedJobs.template"
_JOBSET |= {
  _TEMPLATE: {"spec"},
  f"{_TEMPLATE}.spec": {
    "parallelism",
    "completions",
    "backoffLimit",
    "podFailurePolicy",
    "template",
  },
  f"{_TEMPLATE}.spec.podFailurePolicy": {"rules"},
  f"{_TEMPLATE}.spec.podFailurePolicy.rules": {"action", "onExitCodes"},
  f"{_TEMPLATE}.spec.podFailurePolicy.rules.onExitCodes": {
    "containerName",
    "operator",
    "values",
  },
  f"{_TEMPLATE}.spec.template": {"spec"},
}
_POD = f"{_TEMPLATE}.spec.template.spec"
_JOBSET |= {
  _POD: {
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "nodeSelector",
    "containers",
    "volumes",
  },
  f"{_POD}.containers": {
    "name",
    "image",
    "args",
    "env",
    "resources",
    "volumeMounts",
  },
  f"{_POD}.containers.env": {"name", "value"},
  f"{_POD}.containers.resources": {"limits"},
  f"{_POD}.containers.volumeMounts": {"name", "mountPath"},
  f"{_POD}.volumes": {"name", "persistentVolumeClaim"},
  f"{_POD}.volumes.persistentVolumeClaim": {"claimName"},
}
_FREE = {"metadata.annotations", f"{_POD}.nodeSelector"}
_FREE |= {f"{_POD}.containers.resources.limits"}

_SLURM = ("sbatch", "srun", "squeue", "scontrol", "scancel")
TOOLS = (*_SLURM, "gcloud", "kubectl")


def install(folder: Path) -> None:
  """Write the stand-ins' scripts into a folder, for PATH."""
  folder.mkdir()
  for tool in (*TOOLS, "sleep"):
    path = folder / tool
    path.write_text(
      f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" $0 "$@"\n'
    )
    path.chmod(0o755)


def calls(folder: Path, tool: str) -> list[list[str]]:
  """Return the arguments of each call of a tool."""
  path = folder / "calls.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [row[1:] for row in rows if row[0] == tool]


def main(path: str, arguments: list[str]) -> int:
  """Check the arguments and play the tool; return its exit code."""
  folder, tool = Path(path).parent, Path(path).name
  with (folder / "calls.jsonl").open("a") as file:
    file.write(json.dumps([tool, *arguments]) + "\n")
  if tool == "sleep":
    return _sleep(folder)
  problem, options, rest = _parse(tool, arguments)
  if problem:
    print(f"{tool}: error: {problem}", file=sys.stderr)
    return 64  # no code of the tools or of ours
  return globals()[f"_{tool}"](folder, options, rest)


def _parse(tool: str, arguments: list[str]) -> tuple[str, dict, list[str]]:
  """Return what is wrong, the options, and all else."""
  names = [name for name in _OPTIONS if name.split()[0] == tool]
  words = [tool, *arguments]
  for name in names:
    length = len(name.split())
    if " ".join(words[:length]) == name:
      return _check(_OPTIONS[name], words[length:])
  return f"no command {' '.join(arguments[:4])}", {}, []


def _check(known: dict, arguments: list[str]) -> tuple[str, dict, list[str]]:
  options, rest = {}, []
  for i, word in enumerate(arguments):
    if word == "-f":  # kubectl's short form, with a value of its own
      word = f"--filename={arguments.pop(i + 1)}"
    if not word.startswith("--"):
      rest.append(word)
      if "kill-on-bad-exit" in known:  # srun: the task's own command follows
        rest += arguments[i + 1 :]
        break
      continue
    name, equals, value = word[2:].partition("=")
    if name not in known:
      return f"unrecognized option {word}", {}, []
    pattern = known[name]
    if bool(equals) != (pattern is not None):
      return f"option --{name}: value missing or too much", {}, []
    if pattern and not re.fullmatch(pattern, value):
      return f"invalid value in {word}", {}, []
    options[name] = value
  return "", options, rest


def _told(folder: Path, name: str, default: str) -> str:
  """Return the next line of a test's file; the last one stays."""
  path = folder / name
  if not path.exists():
    return default
  first, _, others = path.read_text().partition("\n")
  if others:
    path.write_text(others)
  return first


def _sleep(folder: Path) -> int:
  """Return at once, or where `asleep` exists, after a test removed it."""
  asleep = folder / "asleep"
  slept = asleep.exists()
  while asleep.exists():
    time.sleep(0.05)
  if slept:
    (folder / "awake").touch()
  return 0


def _sbatch(folder: Path, options: dict, rest: list[str]) -> int:
  """Become the batch shell, whose process `batch_shell` names."""
  del rest
  script = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\n"
  (folder / "batch").write_text(script + options["wrap"] + "\n")
  (folder / "batch_shell").write_text(str(os.getpid()))
  environment = os.environ | {
    "SLURM_JOB_ID": "7",
    "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
  }
  os.execvpe("sh", ["sh", str(folder / "batch")], environment)


def _srun(folder: Path, options: dict, rest: list[str]) -> int:
  """Run one task and return its code; SIGTERM kills it, as the real srun."""
  # Since 22.05, SLURM_CPUS_PER_TASK is not read.
  cpus = options.get("cpus-per-task", "1")
  (folder / "cpus").write_text(cpus)
  task = subprocess.Popen(rest)
  (folder / "task").write_text(str(task.pid))
  signal.signal(signal.SIGTERM, lambda *_: task.kill())
  code = task.wait()
  return code if code >= 0 else 128 - code


def _squeue(folder: Path, options: dict, rest: list[str]) -> int:
  del options, rest
  print(_told(folder, "state", "RUNNING"))
  return 0


def _scontrol(folder: Path, options: dict, rest: list[str]) -> int:
  del folder, options
  return 0 if rest == ["7"] else 1


def _scancel(folder: Path, options: dict, rest: list[str]) -> int:
  """Signal the steps, not the batch shell; a whole job is not cancelled."""
  if rest != ["7"] or not options:
    return 1
  number = signal.Signals[f"SIG{options['signal']}"]
  os.kill(int((folder / "task").read_text()), number)
  return 0


def _gcloud(folder: Path, options: dict, rest: list[str]) -> int:
  if "format" in options:
    state = _told(folder, "state", "ACTIVE")
    if state == "ABSENT":
      print("ERROR: NOT_FOUND", file=sys.stderr)
      return 1
    print(state)
  if options.get("command", "").startswith("cd msggan_jax &&"):
    return int(_told(folder, "code", "0"))
  return 0 if rest else 2  # each has a positional argument


def _kubectl(folder: Path, options: dict, rest: list[str]) -> int:
  import yaml  # the other tools need not wait for it

  del folder, options
  if rest:
    return 1
  manifest = yaml.safe_load(sys.stdin)
  unknown = list(_unknown(manifest, ""))
  if unknown or manifest["apiVersion"] != "jobset.x-k8s.io/v1alpha2":
    print(f"error: unknown field {unknown}", file=sys.stderr)
    return 1
  print(f"jobset.jobset.x-k8s.io/{manifest['metadata']['name']} created")
  return 0


def _unknown(value, path: str):
  """Yield fields that a JobSet does not have."""
  if isinstance(value, list):
    for item in value:
      yield from _unknown(item, path)
  elif isinstance(value, dict) and path not in _FREE:
    for name, inner in value.items():
      inner_path = f"{path}.{name}".lstrip(".")
      if name not in _JOBSET.get(path, ()):
        yield inner_path
      yield from _unknown(inner, inner_path)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1], sys.argv[2:]))
