"""Memory of the devices: peak use and limit."""

import os
import resource
import sys

import jax


def peak_bytes() -> int:
  """Return the peak use: of the first accelerator, else of this process."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == "darwin" else 1024)


def limit_bytes() -> int:
  """Return the memory of a device; on CPUs its share of the host's."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    return stats["bytes_limit"]
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return host // len(jax.local_devices())
