"""Checkpoints: Orbax v1 behind a few verbs; knows trees, not GANs."""

import contextlib
import itertools
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from msggan_jax.runtime import processes
from msggan_jax.weights import manifest

BEST = "best"  # instead of a step

_NAME = "state"
_MOST_CHARACTERS = 300  # of an error's reason


class SaveError(OSError):
  """A checkpoint could not be written; those before it are still there."""


class Checkpoints:
  """The checkpoints of one folder, by step; written asynchronously.

  A checkpoint is complete when its manifest of checksums is there, which is
  written last, and good when its files agree with it.
  """

  def __init__(
    self,
    directory: str | Path,
    keep: int | None = None,
    keep_every: float = 0.0,
  ):
    """Open a folder of checkpoints.

    Args:
      directory: The folder; made at the first save.
      keep: How many of the newest stay, and the best one; None: all.
      keep_every: In steps; the first after each multiple of it stays, too; 0:
        none does.
    """
    self._directory = Path(directory).absolute()
    self._mark = self._directory.with_name("best.json")
    self._best = _read_step(self._mark)
    self._keep = keep
    self._keep_every = keep_every
    self._damaged: set[int] = set()
    self._checkpointer = self._open()
    self._background = ThreadPoolExecutor(max_workers=1)
    self._saving: Future | None = None
    self._failed = False

  @property
  def steps(self) -> list[int]:
    """Return the steps of complete checkpoints not known as damaged."""
    return [
      step
      for step in self._all_steps()
      if manifest.exists(self._folder(step)) and step not in self._damaged
    ]

  @property
  def best(self) -> int | None:
    """Return the step that is marked as the best; None: there is none."""
    return self._best if self._best in self.steps else None

  def mark_best(self, step: int, **reasons: Any) -> None:
    """Mark a checkpoint as the best: it stays, until another one is marked.

    Args:
      step: Which.
      **reasons: What else `best.json`, beside the folder, says.
    """
    self._best = step
    if jax.process_index() == 0:
      temporary = self._mark.with_suffix(".tmp")
      temporary.write_text(json.dumps({"step": step, **reasons}) + "\n")
      temporary.replace(self._mark)

  def save(self, step: int, tree: Any) -> None:
    """Begin to save a tree of arrays; wait only for the save before it.

    Raises:
      SaveError: If the save before it has failed.
    """
    self.wait()
    if step in self.steps:
      return
    self._move_aside(self._folder(step))
    self._damaged.discard(step)
    try:
      response = self._checkpointer.save_async(
        step, tree, checkpointable_name=_NAME, force=True
      )
    except Exception as error:  # whatever Orbax raises
      raise self._failure(step, error) from error
    self._saving = self._background.submit(self._finish, step, response)

  def find(self, step: int | str | None) -> int:
    """Return the step of a checkpoint.

    Args:
      step: Which; "best": the marked one; None: the newest.

    Raises:
      FileNotFoundError: If there is no such checkpoint.
    """
    steps = self.steps
    if step == BEST:
      if self.best is None:
        raise FileNotFoundError(
          f"{self._directory} has no checkpoint marked as the best; runs with "
          "config.eval_kimg mark one"
        )
      return self.best
    if not steps or (step is not None and step not in steps):
      wanted = "no checkpoint" if step is None else f"no checkpoint {step}"
      have = f"; there are {steps}" if steps else ""
      raise FileNotFoundError(f"{self._directory} has {wanted}{have}")
    return steps[-1] if step is None else step

  def restore(self, abstract_tree: Any, step: int | str | None = None) -> Any:
    """Load a checkpoint, or a part of it, after comparing its checksums.

    Args:
      abstract_tree: What to load: the saved tree or a part of it, as
        `jax.ShapeDtypeStruct` with shardings.
      step: As `find` takes it; None passes over damaged ones, with a warning.

    Returns:
      A tree of arrays in the structure of `abstract_tree`.

    Raises:
      FileNotFoundError: If there is no such checkpoint, or no complete one.
      ValueError: If it, or every complete one, is damaged, or if it holds
        another tree.
    """
    if step is None:
      step = self.newest_good()
    step = self._check(self.find(step))
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    try:
      misfits = self._misfits(step, abstract_tree)
      if misfits:
        raise ValueError("; ".join(misfits))
      with context:
        return self._checkpointer.load(
          step, abstract_tree, checkpointable_name=_NAME
        )
    except Exception as error:  # whatever Orbax raises
      raise ValueError(
        f"checkpoint {self._folder(step)} cannot be loaded: "
        f"{_first_line(error)[:_MOST_CHARACTERS]}"
      ) from error

  def wait(self) -> None:
    """Wait for the last save.

    Raises:
      SaveError: If it has failed.
    """
    saving, self._saving = self._saving, None
    if saving:
      saving.result()

  def close(self) -> None:
    """Wait for the last save and release the folder."""
    try:
      self.wait()
    finally:
      self._background.shutdown()
      # After a failed save Orbax would raise its error once more.
      with contextlib.suppress(*([Exception] if self._failed else [])):
        self._checkpointer.close()

  def _open(self) -> ocp.training.Checkpointer:
    return ocp.training.Checkpointer(
      self._directory,
      preservation_policy=ocp.training.preservation_policies.PreserveAll(),
    )

  def _folder(self, step: int) -> Path:
    return self._directory / str(step)

  def _all_steps(self) -> list[int]:
    if not self._directory.is_dir():
      return []
    names = (path.name for path in self._directory.iterdir())
    return sorted(int(name) for name in names if name.isdecimal())

  def newest_good(self) -> int | None:
    """Return the step of the newest good checkpoint; None: there is none.

    Damaged ones after it are passed over, with a warning.

    Raises:
      ValueError: If every complete one is damaged.
    """
    for step in reversed(self._all_steps()):
      problem = manifest.problem(self._folder(step))
      if problem is None:
        return step
      logging.warning("%s is passed over: %s", self._folder(step), problem)
      if manifest.exists(self._folder(step)):
        self._damaged.add(step)
    if self._damaged:
      raise ValueError(
        f"every checkpoint in {self._directory} is damaged; to start anew "
        "choose another --workdir"
      )
    return None

  def _check(self, step: int) -> int:
    problem = manifest.problem(self._folder(step))
    if problem:
      raise ValueError(f"checkpoint {self._folder(step)} is damaged: {problem}")
    return step

  def _misfits(self, step: int, abstract_tree: Any) -> list[str]:
    """Say which arrays of a checkpoint are not as they should be.

    Orbax would begin to read them all, and print what became of each.
    """
    metadata = self._checkpointer.checkpointables_metadata(step).metadata
    there = _shapes(metadata[_NAME])
    return [
      f"{name} is {there.get(name, 'missing')}, expected {shape}"
      for name, shape in _shapes(abstract_tree).items()
      if there.get(name) != shape
    ]

  def _move_aside(self, folder: Path) -> None:
    """Make room where a damaged or unfinished checkpoint lies."""
    in_the_way = folder.exists()
    processes.wait_for_all("checkpoint is looked for")
    if not in_the_way:
      return
    if jax.process_index() == 0:
      names = (f"{folder.name}.damaged{i or ''}" for i in itertools.count())
      folder.rename(
        next(path for path in map(folder.with_name, names) if not path.exists())
      )
    processes.wait_for_all("checkpoint is moved aside")
    # Orbax remembers what it has seen.
    self._checkpointer.close()
    self._checkpointer = self._open()

  def _finish(self, step: int, response: Any) -> None:
    try:
      response.result()
      if jax.process_index() == 0:
        manifest.write(self._folder(step))
        self._delete_surplus()
    except Exception as error:  # whatever Orbax raises
      raise self._failure(step, error) from error

  def _delete_surplus(self) -> None:
    """Delete what is not kept, after a newer one is complete.

    Under another name, so that a kill leaves nothing that looks damaged.
    """
    steps = self.steps
    kept = {*steps[-self._keep :], self._best} if self._keep else {*steps}
    if self._keep_every:
      firsts = {step // self._keep_every: step for step in reversed(steps)}
      kept.update(step for part, step in firsts.items() if part)
    for step in set(steps) - kept:
      self._folder(step).rename(self._directory / f"{step}.deleted")
    for folder in self._directory.glob("*.deleted"):
      if folder.is_symlink():
        folder.unlink()
      else:
        shutil.rmtree(folder)

  def _failure(self, step: int, error: Exception) -> SaveError:
    self._failed = True
    have = f"the newest is {self.steps[-1]}" if self.steps else "there is none"
    return SaveError(
      f"checkpoint {step} could not be saved in {self._directory}, {have}: "
      f"{_first_line(error)}"
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def _read_step(mark: Path) -> int | None:
  try:
    step = json.loads(mark.read_text())["step"]
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (ValueError, TypeError, KeyError, RecursionError):
    step = None
  if type(step) is not int:
    logging.warning("%s is passed over: it is damaged", mark)
    return None
  return step


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0] if str(error) else repr(error)
