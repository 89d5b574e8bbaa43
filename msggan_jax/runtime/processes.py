"""Several processes that train together: on a pod, a cluster, one machine."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

# A lost process is detected within these times, and the others exit.
_HEARTBEAT_SECS = 60
_SHUTDOWN_SECS = 60
_MOST_BYTES = 600  # of a sentence that one process tells the others


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
  """Wait until every process has reached the barrier named `what`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def from_first(number: int) -> int:
  """Return process 0's number in all processes."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


@contextlib.contextmanager
def raising_together() -> Iterator[None]:
  """Make an error of one process's block an error of all; all call it.

  Raises:
    ValueError: In processes without an error of their own, with the sentence
      of the first process that has one.
  """
  failure = None
  try:
    yield
  except Exception as error:
    failure = error
  sentences = _from_all(str(failure) or repr(failure) if failure else "")
  if failure is not None:
    raise failure
  for i, sentence in enumerate(sentences):
    if sentence:
      raise ValueError(f"process {i} of {len(sentences)}: {sentence}")


def numbers_of_all(numbers: Sequence[int]) -> set[int]:
  """Return the numbers, from 0, that any process has given."""
  if jax.process_count() == 1:
    return set(numbers)
  most = multihost_utils.process_allgather(np.int32(len(numbers))).max()
  if not most:
    return set()
  ours = np.full(most, -1, np.int32)
  ours[: len(numbers)] = numbers
  theirs = multihost_utils.process_allgather(ours)
  return set(theirs[theirs >= 0].tolist())


def text_from_first(text: str) -> str:
  """Return process 0's text, of at most some hundred bytes, in all."""
  return _from_all(text)[0]


def _from_all(text: str) -> list[str]:
  """Return the texts of all processes, each cut after some hundred bytes."""
  if jax.process_count() == 1:
    return [text]
  ours = np.zeros(_MOST_BYTES, np.uint8)
  encoded = text.encode()[:_MOST_BYTES]
  ours[: len(encoded)] = np.frombuffer(encoded, np.uint8)
  return [
    theirs.tobytes().rstrip(b"\0").decode(errors="ignore")
    for theirs in multihost_utils.process_allgather(ours)
  ]


def values_from_first(values: dict[str, float] | None) -> dict[str, float]:
  """Return process 0's numbers by name in all processes, to the last digit.

  Args:
    values: The numbers in process 0; elsewhere ignored.
  """
  if jax.process_count() == 1:
    return values
  text = json.dumps(values).encode() if is_first() else b""
  size = from_first(len(text))
  sent = np.frombuffer(text.ljust(size), np.uint8)
  received = multihost_utils.broadcast_one_to_all(sent)
  return json.loads(np.asarray(received).tobytes())


def check_same(what: str, hexadecimal: str) -> None:
  """Check that all processes have the same data.

  Args:
    what: Its name, for the message.
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
      f"{what} differs between the {len(hashes)} processes; prepare it once "
      "and copy it, or put it on a shared disk"
    )
