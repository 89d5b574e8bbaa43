"""CPU cores of this process."""

import os


def usable_cores() -> int:
  """Return how many CPU cores this process may use.

  Slurm and containers give a process some of the machine's cores.
  """
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
