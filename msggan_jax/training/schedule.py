"""When a run logs, samples, saves and evaluates."""

LOG = "log"
SAMPLE = "sample"
SNAPSHOT = "snapshot"  # a log row, the stability and a checkpoint
EVALUATE = "evaluate"


class Schedule:
  """What is due after each step.

  Attributes:
    total_steps: Steps of the whole run.
  """

  def __init__(
    self, batch_size: int, total_kimg: float, every_kimg: dict[str, float]
  ):
    """Set each action's interval; 0: never."""
    self.total_steps = round(1000 * total_kimg / batch_size)
    self._batch_size = batch_size
    self._every_kimg = every_kimg

  def due(self, step: int, stopping: bool = False) -> set[str]:
    """Return what is due after a step.

    Args:
      stopping: Whether the run stops after this step: that takes a snapshot.
    """
    due = {name for name in self._every_kimg if self.is_due(name, step)}
    if step == self.total_steps:
      due |= {SAMPLE, SNAPSHOT}
    if stopping or EVALUATE in due:
      due.add(SNAPSHOT)
    return due

  def is_due(self, name: str, step: int) -> bool:
    """Return whether the images seen pass a multiple of an interval."""
    every = 1000 * self._every_kimg[name]
    if not every:
      return False
    shown = self._batch_size * step
    return shown // every > (shown - self._batch_size) // every
