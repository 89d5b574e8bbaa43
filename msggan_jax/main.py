r"""Train MSG-GAN, or resume the run in the workdir.

  python -m msggan_jax.main --config=configs/celebahq.py \
    --config.batch_size=auto

Set any field of the configuration with --config.<field>=<value>, such as
--config.batch_size=64; auto takes the file's, or the least possible above it
for all devices. The same command resumes a stopped run; with --verify it
replays steps of the run and compares every byte.
"""

import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from msggan_jax.runtime import cli, errors

_BEGAN = time.time()
_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The run's folder; default: runs/<name of the config file>."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Print the run's configuration and needs, and exit."
)
_VERIFY = cli.define_optional(
  "verify",
  "",
  "Replay the steps between the newest two checkpoints, or --verify=STEP,STEP, "
  "and exit: 0 if every tensor agrees byte for byte, else 1. STEP 0 is the "
  "beginning.",
)
_INIT_FROM = flags.DEFINE_string(
  "init_from",
  None,
  "Start a new run from the EMA weights of a run's folder or of an exported "
  ".safetensors file; ignored when the workdir's run resumes.",
)
_FREEZE_D = flags.DEFINE_integer(
  "freeze_d", None, "Short for --config.freeze_d."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Join several processes, detected from TPU pods, Slurm, Open MPI or "
  "Kubernetes; elsewhere give the next three flags.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address", None, "host:port of process 0."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process, from 0.")
_NEW_RANDOMNESS = flags.DEFINE_bool(
  "new_randomness",
  False,
  "Continue a run that has stopped at NaN or Inf, from its newest checkpoint "
  "with other random numbers.",
)

_NEW_DATA = flags.DEFINE_bool(
  "new_data",
  False,
  "Resume a run whose data set has changed, with the changed data.",
)


def main() -> None:
  """Train, or print the dry run."""
  workdir = Path(_WORKDIR.value or default_workdir())
  # Imported late, so that --help and bad flags return at once.
  if _DRY_RUN.value:
    from msggan_jax.planning import description

    print("\n".join(description.dry_run(read_config(workdir))))
    return
  from msggan_jax.runtime import preemption, processes
  from msggan_jax.training import loop, replay

  cluster = {
    "coordinator_address": _COORDINATOR_ADDRESS.value,
    "num_processes": _NUM_PROCESSES.value,
    "process_id": _PROCESS_ID.value,
  }
  if _DISTRIBUTED.value or any(x is not None for x in cluster.values()):
    processes.join(**cluster)
  with processes.ending_together():
    if _VERIFY.value is not None:
      replay.verify(read_config(workdir), workdir, _VERIFY.value)
      return
    try:
      loop.train(
        read_config(workdir),
        workdir,
        began=_BEGAN,
        init_from=_INIT_FROM.value,
        new_randomness=_NEW_RANDOMNESS.value,
        new_data=_NEW_DATA.value,
      )
    except preemption.Stopped as stopped:
      print(f"{stopped}; the same command resumes it", flush=True)
      sys.exit(errors.EXIT_STOPPED)
  images = f"--output={workdir / 'images'}"
  sample = cli.command("sample", f"--workdir={workdir}", images, "--seeds=0-15")
  processes.say(
    f"done: pictures in {workdir / 'samples'}; sample with", f"  {sample}"
  )


def read_config(workdir: Path) -> ConfigDict:
  """Return the resolved configuration."""
  import jax

  from msggan_jax.config.resolve import resolve
  from msggan_jax.planning import estimate

  if _FREEZE_D.value is not None:
    _CONFIG.value.freeze_d = _FREEZE_D.value
  return resolve(
    _CONFIG.value,
    jax.device_count(),
    workdir=workdir,
    fits=estimate.fits,
    **cli.config_origin(),
  )


def default_workdir() -> str:
  """Return runs/<config's name>[-<argument>], such as runs/demo-earth."""
  path, argument = cli.config_file()
  name = Path(path).stem
  return f"runs/{name}-{argument}" if argument else f"runs/{name}"


if __name__ == "__main__":
  cli.run(main)
