"""This machine: cores and memory."""

import collections
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_A, _B = TypeVar("_A"), TypeVar("_B")


def usable_cores() -> int:
  """Return the CPU cores that Slurm or a container gives this process."""
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def map_in_order(
  function: Callable[[_A], _B],
  arguments: Iterable[_A],
  *,
  threads: int | None = None,
  ahead: int | None = None,
) -> Iterator[_B]:
  """Map with threads, by default on all cores, a bounded distance ahead."""
  threads = threads or min(32, usable_cores())
  with ThreadPoolExecutor(threads) as pool:
    pending = collections.deque()
    for argument in arguments:
      pending.append(pool.submit(function, argument))
      if len(pending) > (ahead or 4 * threads):
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()


def peak_bytes() -> int:
  """Return the peak use: of the first accelerator, else of this process."""
  stats = _memory_stats()
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == "darwin" else 1024)


def limit_bytes() -> int:
  """Return the memory of a device; on CPUs its share of the host's."""
  import jax

  stats = _memory_stats()
  if "bytes_limit" in stats:
    return stats["bytes_limit"]
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return host // len(jax.local_devices())


def _memory_stats() -> dict[str, int]:
  import jax  # late: data is prepared without JAX

  return jax.local_devices()[0].memory_stats() or {}
