"""Several processes that train together: on a pod, a cluster, one machine."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from msggan_jax.runtime import errors

# A lost process is detected within these times, and the others exit.
_HEARTBEAT_SECS = 60
_SHUTDOWN_SECS = 60
_PATIENCE_SECS = 70  # network disks cache a folder's names for up to a minute


def join(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
) -> None:
  """Join the other processes of a job; call it before the first use of JAX.

  Arguments that are None are detected: on TPU pods, with Slurm, Open MPI and
  Kubernetes. ValueError if only some are given, or nothing is detected.
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
  if coordinator_address and ":" not in coordinator_address:
    raise ValueError(
      f"--coordinator_address={coordinator_address} has no port; give such as "
      f"{coordinator_address}:1234"
    )
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(
      *given,
      # Slurm's variables would give each process one GPU.
      cluster_detection_method=None if None in given else "deactivate",
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


def say(*lines: str) -> None:
  """Print lines, once for all processes and above any progress bar."""
  if is_first():
    for line in lines:
      tqdm.write(line)
    sys.stdout.flush()


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Make an error of this process end the others, too.

  A normal exit would wait for the others, which wait for this process. An
  `Ending` is the others' too, and the first one prints it.
  """
  try:
    yield
  except errors.Ending as ending:
    if is_first():
      raise
    sys.exit(ending.code)
  except Exception as error:
    if jax.process_count() == 1:
      raise
    os._exit(errors.show(error))


@contextlib.contextmanager
def raising_together() -> Iterator[None]:
  """Make an error of one process's block an error of all; all call it.

  Processes without an error of their own raise ValueError, or OSError after an
  error of the system, with the sentence of the first process that has one.
  """
  failure, ours = None, None
  try:
    yield
  except Exception as error:
    passes = errors.exit_code(error) == errors.EXIT_FAILURE
    of_system = isinstance(error, OSError) and passes
    failure, ours = error, (str(error) or repr(error), of_system)
  failures = from_all(ours)
  if failure is not None:
    raise failure
  for i, error in enumerate(failures):
    if error:
      sentence, of_system = error
      kind = OSError if of_system else ValueError
      raise kind(f"process {i} of {len(failures)}: {sentence}")


def once_visible(look: Callable[[], Any]) -> Any:
  """Return `look()`, which fails while files of the first process are missing.

  A shared disk may show new files to the others later.
  """
  deadline = time.monotonic() + (0 if is_first() else _PATIENCE_SECS)
  while True:
    try:
      return look()
    except (ValueError, FileNotFoundError):
      if time.monotonic() >= deadline:
        raise
    time.sleep(1)


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
  return from_all(value if is_first() else None)[0]


def decided_by_first(look: Callable[[], Any]) -> Any:
  """Return what process 0 finds, or raise its error in all; a call of all.

  Others may see other files on a shared disk. JSON can hold the value.
  """
  with raising_together():
    found = look() if is_first() else None
  return from_first(found)


def check_same(what: str, value: Any) -> None:
  """Raise ValueError in all processes if their values of `what` differ."""
  values = from_all(value)
  if any(theirs != values[0] for theirs in values):
    raise ValueError(
      f"{what} differs between the {len(values)} processes; prepare it once "
      "and copy it, or put it on a shared disk"
    )
