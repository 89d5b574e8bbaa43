"""Write a page about a run, or about several side by side.

  python -m msggan_jax.report --workdir=runs/demo
  python -m msggan_jax.report --workdir=runs/a,runs/b,runs/c

The page is one file, report.html in the first workdir. It needs the packages
of pip install 'msggan_jax[report]', and it may be written during training.
"""

import sys
from pathlib import Path

from absl import flags

from msggan_jax.runtime import cli

_WORKDIR = flags.DEFINE_list(
  "workdir", None, "The run's folder, or several with commas.", required=True
)
_OUTPUT = flags.DEFINE_string(
  "output", "", "The file; default: report.html in the first workdir."
)


def main() -> None:
  """Write the page."""
  # Imported late, so that --help and bad flags return at once.
  from msggan_jax.reporting import records

  runs = records.read(_WORKDIR.value)
  try:
    from msggan_jax.reporting import page
  except ModuleNotFoundError as error:
    raise ValueError(
      f"the report needs the package {error.name}: pip install "
      "'msggan_jax[report]'"
    ) from error
  path = Path(_OUTPUT.value or runs[0].workdir / page.NAME)
  size = page.write(runs, path)
  for run in runs:
    for note in run.notes:
      print(f"{run.workdir}: skipping {note}", file=sys.stderr)
  print(f"{path}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
  cli.run(main)
