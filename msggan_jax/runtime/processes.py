"""Several processes that train as one: on a pod, a cluster, one machine."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

# Within these a process that is gone is noticed, and the others end.
_HEARTBEAT_SECS = 60
_SHUTDOWN_SECS = 60


def join(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Join the other processes of a job; call it before JAX is used.

  Without arguments the surroundings tell: TPU pods, Slurm, Open MPI and
  Kubernetes do.

  Args:
    coordinator_address: "host:port" of process 0.
    num_processes: How many there are.
    process_id: Which one this is, from 0.

  Raises:
    ValueError: If the arguments do not go together, or nothing tells.
  """
  given = (coordinator_address, num_processes, process_id)
  if any(x is not None for x in given) and None in given:
    raise ValueError(
      "--coordinator_address, --num_processes and --process_id belong "
      "together: give all three"
    )
  if process_id is not None and not 0 <= process_id < num_processes:
    raise ValueError(
      f"--process_id is {process_id}; with --num_processes={num_processes} it "
      f"must be from 0 to {num_processes - 1}"
    )
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(
      *given,
      heartbeat_timeout_seconds=_HEARTBEAT_SECS,
      shutdown_timeout_seconds=_SHUTDOWN_SECS,
    )
  except ValueError as error:
    raise ValueError(
      f"--distributed: nothing here tells of other processes ({error}); give "
      "--coordinator_address, --num_processes and --process_id"
    ) from error


def is_first() -> bool:
  """Tell whether this process is the one that writes and speaks."""
  return jax.process_index() == 0


@contextlib.contextmanager
def ending_together(bad_input_code: int) -> Iterator[None]:
  """Make an error of this process end the others, too.

  Leaving in the usual way would wait for them, and they for this one.

  Args:
    bad_input_code: Exit code after ValueError and FileNotFoundError.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    hopeless = isinstance(error, ValueError | FileNotFoundError)
    if hopeless or isinstance(error, OSError):  # such as a full disk
      print(f"error: {error}", file=sys.stderr, flush=True)
      os._exit(bad_input_code if hopeless else 1)
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def wait_for_all(what: str) -> None:
  """Wait until every process has come to the same place, named `what`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def from_first(number: int) -> int:
  """Return what process 0 has given."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_same(what: str, hexadecimal: str) -> None:
  """Check that all processes have the same data.

  Args:
    what: Name of it, for the message.
    hexadecimal: Its hash.

  Raises:
    ValueError: In all processes, if they differ.
  """
  if jax.process_count() == 1:
    return
  ours = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8)
  hashes = multihost_utils.process_allgather(ours)
  if (hashes != hashes[:1]).any():
    raise ValueError(
      f"{what} is not the same in all {len(hashes)} processes; prepare it once "
      "and copy it, or put it on a disk that all of them see"
    )
