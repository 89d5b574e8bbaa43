"""Train MSG-GAN, or go on where the workdir stands.

  python -m msggan_jax.main --config=configs/celebahq.py

Any field of the configuration can be given: --config.batch_size=64.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from msggan_jax.runtime import cli

_BEGAN = time.time()
_CONFIG = config_flags.DEFINE_config_file(
  "config",
  help_string="Configuration file, with its argument after a colon.",
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The run's folder; default: runs/<name of the config file>."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Say what the run would be and need, and end."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "This is one of several processes; TPU pods, Slurm, Open MPI and Kubernetes "
  "tell which, elsewhere the next three flags do.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address", None, "host:port of process 0."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which, from 0.")
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
  """Train as the flags say."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  if _DRY_RUN.value:
    from msggan_jax.planning import dry_run

    print("\n".join(dry_run.describe(_CONFIG.value)))
    return
  from msggan_jax.runtime import preemption, processes
  from msggan_jax.training import loop, nonfinite

  several = (
    _COORDINATOR_ADDRESS.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
  )
  if _DISTRIBUTED.value or any(x is not None for x in several):
    processes.join(*several)
  workdir = Path(_WORKDIR.value or default_workdir())
  with processes.ending_together(cli.EXIT_HOPELESS):
    try:
      loop.train(_CONFIG.value, workdir, began=_BEGAN)
    except preemption.Stopped as stopped:
      print(f"{stopped}; the same command goes on from there", flush=True)
      sys.exit(preemption.EXIT_CODE)
    except nonfinite.NonFinite as error:
      if not processes.is_first():
        sys.exit(cli.EXIT_HOPELESS)
      cli.fail(
        f"{error}, and config.max_rollbacks allows no other attempt; see "
        f"{workdir / nonfinite.REPORT}",
        cli.EXIT_HOPELESS,
      )
  if not processes.is_first():
    return
  print(f"done: pictures in {workdir / 'samples'}; sample with")
  print(
    f"  python -m msggan_jax.sample --workdir={workdir} "
    f"--output={workdir / 'images'} --seeds=0-15"
  )


def default_workdir() -> str:
  """Return runs/<config's name>, with its argument: runs/demo-earth."""
  path, argument = cli.config_file()
  name = Path(path).stem
  return f"runs/{name}-{argument}" if argument else f"runs/{name}"


if __name__ == "__main__":
  cli.run(main)
