"""Checkpoints: Orbax v1 behind a few verbs; knows trees, not GANs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

BEST = "best"  # instead of a step

_NAME = "state"


class Checkpoints:
  """The checkpoints of one folder, by step; written asynchronously."""

  def __init__(self, directory: str | Path, keep: int | None = None):
    """Open a folder of checkpoints.

    Args:
      directory: The folder; made at the first save.
      keep: How many of the newest stay, and the best one; None: all.
    """
    self._directory = Path(directory).absolute()
    self._mark = self._directory.with_name("best.json")
    self._best = _read_step(self._mark)
    self._keep = keep
    self._checkpointer = ocp.training.Checkpointer(
      self._directory, preservation_policy=self
    )

  def should_preserve(self, checkpoints: Sequence[Any], **_) -> list[bool]:
    """Tell Orbax which checkpoints stay."""
    newest = checkpoints[-self._keep :] if self._keep else checkpoints
    kept = {checkpoint.step for checkpoint in newest} | {self._best}
    return [checkpoint.step in kept for checkpoint in checkpoints]

  @property
  def steps(self) -> list[int]:
    """Return the steps of the complete checkpoints, ascending."""
    return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

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
    """Begin to save a tree of arrays; wait only for the save before it."""
    if step not in self.steps:
      self._checkpointer.save_async(
        step, tree, checkpointable_name=_NAME, force=True
      )

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
    """Load a checkpoint, or a part of it.

    Args:
      abstract_tree: What to load: the saved tree or a part of it, as
        `jax.ShapeDtypeStruct` with shardings.
      step: As `find` takes it.

    Returns:
      A tree of arrays in the structure of `abstract_tree`.

    Raises:
      FileNotFoundError: If there is no such checkpoint.
    """
    step = self.find(step)
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    with context:
      return self._checkpointer.load(
        step, abstract_tree, checkpointable_name=_NAME
      )

  def wait(self) -> None:
    """Wait for the last save."""
    self._checkpointer.wait()

  def close(self) -> None:
    """Wait for the last save and release the folder."""
    self._checkpointer.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def _read_step(mark: Path) -> int | None:
  try:
    return json.loads(mark.read_text())["step"]
  except (FileNotFoundError, NotADirectoryError):
    return None
