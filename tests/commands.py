"""Commands of the package, in processes that are forked after all imports."""

import tempfile
from pathlib import Path

from tests.runs.forked import Forked, command

EXTRACTOR = "tests.golden_metrics.mean_colors:mean_colors"  # needs no weights


def run_command(name, *flags, code=0, before=None):
  """Run a command; return its stdout and stderr, as one text."""
  with tempfile.TemporaryDirectory() as folder:
    log = Path(folder) / "log"
    ended = Forked({}, log, command, name, *flags, before=before).wait()
    said = log.read_text()
  assert ended == code, said
  return said
