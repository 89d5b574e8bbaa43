"""Train MSG-GAN, or go on where the workdir stands.

  python -m msggan_jax.main --config=configs/celebahq.py

Any field of the configuration can be given: --config.batch_size=64.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from msggan_jax import cli

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
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
  """Train as the flags say."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  if _DRY_RUN.value:
    from msggan_jax import dry_run

    print("\n".join(dry_run.describe(_CONFIG.value)))
    return
  from msggan_jax import train

  workdir = Path(_WORKDIR.value or default_workdir())
  train.train(_CONFIG.value, workdir)
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
