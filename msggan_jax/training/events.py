"""Events: after which steps a run logs, samples, saves and evaluates."""

from pathlib import Path

from ml_collections import ConfigDict

from msggan_jax.algorithm import growth

# Events; `config.<name>_kimg` is the interval of each.
LOG = "log"
SAMPLE = "sample"
SNAPSHOT = "snapshot"  # a log row, the stability and a checkpoint
EVALUATE = "eval"


class Schedule:
  """The events that are due after each step."""

  def __init__(self, config: ConfigDict):
    self.total_steps = growth.total_steps(config)
    self._config = config
    self._phases = growth.phases(config)  # once, not at every step

  def kimg_at(self, step: int) -> float:
    """Return the thousands of images shown up to a step."""
    return growth.images_at(self._phases, step) / 1000

  def is_last_stage(self, step: int) -> bool:
    """Return whether a step, from 1, is one of the full resolution."""
    full = self._config.resolution
    return step > next(
      x.first_step for x in self._phases if x.resolution == full
    )

  def part_of(self, step: int) -> float:
    """Return the number of the part of the run, of `keep_kimg`."""
    every = 1000 * self._config.keep_kimg
    return growth.images_at(self._phases, step) // every

  def check(self, step: int, workdir: Path) -> None:
    """Raise ValueError if a run has no step, or stands after its end."""
    if not self.total_steps:
      raise ValueError(
        f"config.total_kimg is {self._config.total_kimg:g}, not one batch of "
        f"{self._config.batch_size}; choose more"
      )
    if step > self.total_steps:
      kimg = self.kimg_at(step)
      raise ValueError(
        f"config.total_kimg is {self._config.total_kimg:g}, but {workdir} has "
        f"trained for {kimg:g} kimg already; choose more to train on"
      )

  def due(self, step: int, stopping: bool) -> set[str]:
    """Return the events due after a step; `stopping`: the run ends with it."""
    due = set()
    shown, before = (
      growth.images_at(self._phases, i) for i in (step, step - 1)
    )
    for name in (LOG, SAMPLE, SNAPSHOT, EVALUATE):
      every = 1000 * self._config[f"{name}_kimg"]
      if every and shown // every > before // every:
        due.add(name)
    if step == self.total_steps:
      due |= {SAMPLE, SNAPSHOT}
      # Not of a run shorter than the interval: it would take longer than the
      # training.
      if 0 < self._config.eval_kimg <= self._config.total_kimg:
        due.add(EVALUATE)
    if stopping or EVALUATE in due:
      due.add(SNAPSHOT)
    return due
