"""Checkpoints: Orbax v1 behind four verbs; knows trees, not GANs."""

from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

_NAME = "state"


class Checkpoints:
  """The checkpoints of one folder, by step; written asynchronously."""

  def __init__(self, directory: str | Path, keep: int | None = None):
    """Open a folder of checkpoints.

    Args:
      directory: The folder; made at the first save.
      keep: How many of the newest stay; None: all.
    """
    self._directory = Path(directory).absolute()
    policies = ocp.training.preservation_policies
    self._checkpointer = ocp.training.Checkpointer(
      self._directory,
      preservation_policy=policies.LatestN(keep)
      if keep
      else policies.PreserveAll(),
    )

  @property
  def steps(self) -> list[int]:
    """Return the steps of the complete checkpoints, ascending."""
    return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

  def save(self, step: int, tree: Any) -> None:
    """Begin to save a tree of arrays; wait only for the save before it."""
    if step not in self.steps:
      self._checkpointer.save_async(
        step, tree, checkpointable_name=_NAME, force=True
      )

  def restore(self, abstract_tree: Any, step: int | None = None) -> Any:
    """Load a checkpoint, or a part of it.

    Args:
      abstract_tree: What to load: the saved tree or a part of it, as
        `jax.ShapeDtypeStruct` with shardings.
      step: Which; None: the newest.

    Returns:
      A tree of arrays in the structure of `abstract_tree`.

    Raises:
      FileNotFoundError: If there is no such checkpoint.
    """
    steps = self.steps
    if not steps or (step is not None and step not in steps):
      wanted = "no checkpoint" if step is None else f"no checkpoint {step}"
      have = f"; there are {steps}" if steps else ""
      raise FileNotFoundError(f"{self._directory} has {wanted}{have}")
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    with context:
      return self._checkpointer.load(
        steps[-1] if step is None else step,
        abstract_tree,
        checkpointable_name=_NAME,
      )

  def close(self) -> None:
    """Wait for the last save and release the folder."""
    self._checkpointer.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()
