"""Commands of the package, in processes that are forked after all imports."""

import tempfile
from pathlib import Path

from tests.runs.forked import Forked, command, finish

EXTRACTOR = "tests.golden_metrics.mean_colors:mean_colors"  # needs no weights


def run_command(name, *flags, code=0, before=None, **environment):
  """Run a command; return its stdout and stderr, as one text."""
  with tempfile.TemporaryDirectory() as folder:
    log, words = Path(folder) / "log", (name, *flags)
    started = Forked(environment, log, command, *words, before=before)
    (ended,) = finish([started])
    said = log.read_text()
  assert ended == code, said
  return said
