"""Several processes that train together: on a pod, a cluster, one machine."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# A lost process is detected within these times, and the others exit.
_HEARTBEAT_SECS = 60
_SHUTDOWN_SECS = 60


def join(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Join the other processes of a job; call it before the first use of JAX.

  Without arguments, detected from the environment: TPU pods, Slurm, Open MPI
  and Kubernetes.

  Args:
    coordinator_address: "host:port" of process 0.
    num_processes: Number of processes.
    process_id: This process, from 0.

  Raises:
    ValueError: If the arguments are incomplete, or nothing is detected.
  """
  given = (coordinator_address, num_processes, process_id)
  if any(x is not None for x in given) and None in given:
    raise ValueError(
      "give --coordinator_address, --num_processes and --process_id together"
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
      f"--distributed: no cluster was detected ({error}); give "
      "--coordinator_address, --num_processes and --process_id"
    ) from error


def is_first() -> bool:
  """Return whether this is the process that writes files and logs."""
  return jax.process_index() == 0


@contextlib.contextmanager
def ending_together(bad_input_code: int) -> Iterator[None]:
  """Make an error of this process end the others, too.

  A normal exit would wait for the others, which wait for this process.

  Args:
    bad_input_code: Exit code after an error of `is_hopeless`.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    hopeless = is_hopeless(error)
    if hopeless or isinstance(error, OSError):  # such as a full disk
      print(f"error: {error}", file=sys.stderr, flush=True)
    else:
      traceback.print_exc()
      sys.stderr.flush()
    os._exit(bad_input_code if hopeless else 1)


def is_hopeless(error: Exception) -> bool:
  """Return whether the same command would fail again: it is bad input."""
  return isinstance(error, ValueError | FileNotFoundError)


@contextlib.contextmanager
def raising_together() -> Iterator[None]:
  """Make an error of one process's block an error of all; all call it.

  Raises:
    ValueError: In processes without an error of their own, with the sentence
      of the first process that has one.
    OSError: Likewise, if that one's is an error of the system.
  """
  failure, ours = None, None
  try:
    yield
  except Exception as error:
    of_system = isinstance(error, OSError) and not is_hopeless(error)
    failure, ours = error, (str(error) or repr(error), of_system)
  errors = from_all(ours)
  if failure is not None:
    raise failure
  for i, error in enumerate(errors):
    if error:
      sentence, of_system = error
      kind = OSError if of_system else ValueError
      raise kind(f"process {i} of {len(errors)}: {sentence}")


def wait_for_all(what: str) -> None:
  """Wait until every process has reached the barrier named `what`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def from_all(value: Any) -> list[Any]:
  """Return every process's value, which JSON can hold; a call of all."""
  if jax.process_count() == 1:
    return [value]
  ours = json.dumps(value).encode()
  size = multihost_utils.process_allgather(np.int32(len(ours))).max()
  padded = np.frombuffer(ours.ljust(size), np.uint8)
  theirs = multihost_utils.process_allgather(padded)
  return [json.loads(text.tobytes()) for text in theirs]


def from_first(value: Any) -> Any:
  """Return process 0's value, which JSON can hold; a call of all."""
  if jax.process_count() == 1:
    return value
  return from_all(value if is_first() else None)[0]


def check_same(what: str, value: Any) -> None:
  """Check that all processes have the same value.

  Args:
    what: Its name, for the message.
    value: Its hash, for example.

  Raises:
    ValueError: In all processes, if they differ.
  """
  values = from_all(value)
  if any(theirs != values[0] for theirs in values):
    raise ValueError(
      f"{what} differs between the {len(values)} processes; prepare it once "
      "and copy it, or put it on a shared disk"
    )
