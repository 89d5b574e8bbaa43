"""Checkpoints of trees of arrays, with Orbax v1; knows no GAN."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from msggan_jax.checkpoints import manifest
from msggan_jax.checkpoints.tensors import flatten
from msggan_jax.config.saved import STARTING
from msggan_jax.runtime import errors, files, jsonl, processes

BEST = "best"  # instead of a step

_NAME = "state"
_PROVENANCE = "provenance.json"
_UNFINISHED = "{}.orbax-checkpoint-tmp*"
# Files of a run that has trained.
_OF_A_RUN = (
  *("stats.jsonl", "metrics.jsonl", "averages/[1-9]*"),
  *("checkpoints/[0-9]*", "samples/*/*[1-9]*.png"),
)


# Orbax logs a traceback of every thread whose error it raises, too.
logging.get_absl_logger().addFilter(
  lambda record: not (record.exc_info and "orbax" in record.pathname)
)


class SaveError(OSError):
  """A checkpoint could not be written; earlier ones still exist."""


class Checkpoints:
  """The checkpoints of one folder, by step; written asynchronously."""

  def __init__(
    self,
    directory: str | Path,
    keep: int | None = None,
    part_of: Callable[[int], float] | None = None,
    provenance: Mapping[str, str | int] | None = None,
  ):
    """Open a folder of checkpoints, which the first save creates.

    Kept are all, or the `keep` newest, the best, step 0 and the first of each
    part of the run; `part_of` maps a step to its part, 0 at first. Each
    checkpoint keeps the `provenance` of its trees.
    """
    self._directory = Path(directory).absolute()
    self._mark = self._directory.with_name("best.json")
    self._best = _read_step(self._mark)
    self._starting = self._directory.with_name(STARTING)
    self._keep = keep
    self._part_of = part_of
    self._provenance = provenance
    self._damaged: set[int] = set()
    self._background = ThreadPoolExecutor(max_workers=1)
    self._saving: Future | None = None

  @property
  def steps(self) -> list[int]:
    """Return the steps of complete checkpoints not known to be damaged."""
    return [
      step
      for step in self._all_steps()
      if manifest.exists(self._folder(step)) and step not in self._damaged
    ]

  def provenance(self, step: int) -> dict[str, Any] | None:
    """Return what a checkpoint depends on, if it was kept with it."""
    try:
      return json.loads((self._folder(step) / _PROVENANCE).read_bytes())
    except (OSError, ValueError):
      return None

  def mark_best(self, step: int, **reasons: Any) -> None:
    """Mark a checkpoint as the best, which is kept until the next mark.

    `reasons` are other fields of `best.json`, beside the folder.
    """
    self._best = step
    if jax.process_index() == 0:
      files.write(self._mark, json.dumps({"step": step, **reasons}) + "\n")

  def save(self, step: int, tree: Any) -> None:
    """Start to save a tree of arrays; wait only for the previous save.

    All processes call it. The first one decides whether the checkpoint exists:
    the others may see other files on a shared disk. Raises as `wait`.
    """
    self.wait()
    try:
      if not processes.decided_by_first(lambda: self._make_way(step)):
        return
      # Not Orbax's Checkpointer, which reports steps to JAX's preemption
      # manager, where they mix with the steps of `runtime.preemption`.
      with _context():
        response = ocp.save_async(
          self._folder(step), tree, checkpointable_name=_NAME
        )
    except Exception as error:  # whatever Orbax raises
      raise self._failure(step, error) from error
    self._saving = self._background.submit(self._finish, step, response)

  def find(self, step: int | str | None) -> int:
    """Return the step of a checkpoint; FileNotFoundError without one.

    "best" is the marked one, None the newest.
    """
    steps = self.steps
    if step == BEST:
      if self._best not in steps:
        raise FileNotFoundError(
          f"{self._directory} has no checkpoint marked as the best; runs with "
          "config.eval_kimg mark one"
        )
      return self._best
    if not steps or (step is not None and step not in steps):
      wanted = "no checkpoint" if step is None else f"no checkpoint {step!r}"
      have = f"; there are {steps}" if steps else ""
      raise FileNotFoundError(f"{self._directory} has {wanted}{have}")
    return steps[-1 if step is None else steps.index(step)]

  def restore(self, abstract_tree: Any, step: int | str | None = None) -> Any:
    """Load a checkpoint, or a part of it, after checking its checksums.

    All processes call it with the same step, and all load it or none. The
    abstract tree has `jax.ShapeDtypeStruct` with shardings. `step` is as in
    `find`, but None skips damaged ones with a warning.

    Raises:
      FileNotFoundError: If the checkpoint does not exist.
      ValueError: If it is damaged, or holds another tree.
    """
    if step is None:
      step = self.newest_good()
    with processes.raising_together():
      step = processes.once_visible(lambda: self._check(step))
    try:
      # Orbax itself would first read all arrays and print each misfit.
      metadata = ocp.metadata(self._folder(step), checkpointable_name=_NAME)
      there = _shapes(metadata.metadata)
      misfits = [
        f"{name} is {there.get(name, 'missing')}, expected {shape}"
        for name, shape in _shapes(abstract_tree).items()
        if there.get(name) != shape
      ]
      if misfits:
        raise ValueError("; ".join(misfits))
      with _context():
        return ocp.load(
          self._folder(step), abstract_tree, checkpointable_name=_NAME
        )
    except Exception as error:  # whatever Orbax raises
      raise ValueError(
        f"checkpoint {self._folder(step)} cannot be loaded: "
        f"{errors.first_line(error)}"
      ) from error

  def wait(self) -> None:
    """Wait for the last save; raise SaveError if it has failed."""
    saving, self._saving = self._saving, None
    if saving:
      saving.result()

  def check(self) -> None:
    """Raise SaveError if the last save has failed already, without waiting."""
    if self._saving and self._saving.done():
      self.wait()

  def begin(self) -> int | None:
    """Return the newest good checkpoint's step for a run that trains on.

    Needs the run's lock: it removes unfinished files of a kill. All processes
    call it, and get the first one's answer.

    Raises:
      ValueError: If the run has trained, but its checkpoints are away.
    """
    return processes.decided_by_first(self._begin)

  def _begin(self) -> int | None:
    for folder in self._directory.glob(_UNFINISHED.format("[0-9]*")):
      if not folder.is_symlink():
        logging.warning("removing %s, which a killed save left", folder)
        files.remove(folder)
    workdir = self._directory.parent
    for left in workdir.glob(".*.json*.tmp"):
      left.unlink()
    step = self._newest_good()
    if not step:  # nothing is overwritten by a run that begins anew
      left = (path for name in _OF_A_RUN for path in workdir.glob(name))
      names = (str(path.relative_to(workdir)) for path in left)
      ours = f"{self._directory.name}/{step}"
      name = next((name for name in names if name != ours), None)
      if name and not self._starting.exists():
        raise ValueError(
          f"{workdir} has {name} of a run, but {self._directory} has no good "
          "checkpoint of it: bring the checkpoints back, with their "
          f"{manifest.NAME}, or choose another --workdir"
        )
      files.write(self._starting, "")
    return step

  def _folder(self, step: int) -> Path:
    return self._directory / str(step)

  def _all_steps(self) -> list[int]:
    names = (path.name for path in self._directory.glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())

  def newest_good(self) -> int | None:
    """Return the step of the newest good checkpoint, or None.

    All processes get the first one's answer. Damaged checkpoints are skipped
    with a warning; ValueError if every complete one is damaged.
    """
    return processes.decided_by_first(self._newest_good)

  def _newest_good(self) -> int | None:
    for step in reversed(self._all_steps()):
      problem = manifest.find_damage(self._folder(step))
      if problem is None:
        return step
      logging.warning("skipping %s: %s", self._folder(step), problem)
      if manifest.exists(self._folder(step)):
        self._damaged.add(step)
    if self._damaged:
      raise ValueError(
        f"every checkpoint in {self._directory} is damaged; to start anew "
        "choose another --workdir"
      )
    return None

  def _check(self, step: int | str | None) -> int:
    """Return the step of a checkpoint that this process sees and finds good."""
    found = self.find(step)
    problem = manifest.find_damage(self._folder(found))
    if problem is not None:
      raise ValueError(
        f"checkpoint {self._folder(found)} is damaged: {problem}"
      )
    return found

  def _make_way(self, step: int) -> bool:
    """Return whether a step must be saved; the first process's decision.

    A damaged or unfinished checkpoint is renamed out of the way.
    """
    # Orbax would make it, too, but warn of a coroutine beside its error.
    self._directory.mkdir(parents=True, exist_ok=True)
    if step in self.steps:
      return False
    folder = self._folder(step)
    if folder.exists():
      names = (f"{folder.name}.damaged{i or ''}" for i in itertools.count())
      folder.rename(
        next(path for path in map(folder.with_name, names) if not path.exists())
      )
    self._damaged.discard(step)
    return True

  def _finish(self, step: int, response: Any) -> None:
    try:
      response.result()
      if jax.process_index() == 0:
        if self._provenance is not None:
          text = json.dumps(self._provenance, indent=1)
          (self._folder(step) / _PROVENANCE).write_text(text + "\n")
        manifest.write(self._folder(step))
        if step:
          self._starting.unlink(missing_ok=True)
        self._delete_surplus()
    except Exception as error:  # whatever Orbax raises
      if jax.process_index() == 0 and not manifest.exists(self._folder(step)):
        files.remove(self._folder(step))
      raise self._failure(step, error) from error

  def _delete_surplus(self) -> None:
    """Delete checkpoints that are not kept, after a newer one is complete.

    They are renamed first, so that a kill leaves no folder that looks damaged.
    """
    steps = self.steps
    kept = {*steps[-self._keep :], self._best} if self._keep else {*steps}
    kept.add(0)  # of a fine-tuned run: a replay cannot make it anew
    if self._part_of:
      firsts = {self._part_of(step): step for step in reversed(steps)}
      kept.update(step for part, step in firsts.items() if part)
    for step in {*steps} - kept:
      self._folder(step).rename(self._directory / f"{step}.deleted")
    for folder in self._directory.glob("*.deleted"):
      files.remove(folder)

  def _failure(self, step: int, error: Exception) -> SaveError:
    if jax.process_index() == 0:
      for _ in range(10):  # threads of the failed save may still write
        for folder in self._directory.glob(_UNFINISHED.format(step)):
          files.remove(folder)
        time.sleep(0.1)
    have = f"the newest is {self.steps[-1]}" if self.steps else "there is none"
    return SaveError(
      f"checkpoint {step} could not be saved in {self._directory}, {have}: "
      f"{errors.reason(error)}"
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    """Wait for the last save and end its thread."""
    try:
      self.wait()
    finally:
      self._background.shutdown()


def _context() -> ocp.Context:
  """Return Orbax's settings for saving and loading."""
  context = ocp.Context()
  context.pytree_options.loading.partial_load = True
  # The first process has looked; another may still see a renamed folder.
  context.file_options.skip_sync_file_validations = True
  return context


def _read_step(mark: Path) -> int | None:
  try:
    marked = jsonl.parse(mark.read_text(errors="replace")) or {}
  except (FileNotFoundError, NotADirectoryError):
    return None
  step = marked.get("step")
  if type(step) is not int:
    logging.warning("skipping %s: it is damaged", mark)
    return None
  return step


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}
