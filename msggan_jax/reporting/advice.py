"""What to try next, from the rule that holds for a run."""

import enum
from collections.abc import Sequence
from statistics import median

from msggan_jax.reporting.records import Run, number, plain
from msggan_jax.reporting.scores import Scores
from msggan_jax.runtime.clock import duration

_WAITING = 0.2  # share of the loop's time spent on data
_FEW_FAKES = 5000  # scores of fewer are noisy


class Kind(enum.Enum):
  """The rules about a run, the worst first; the first that holds decides."""

  GAVE_UP = "gave up"
  DIVERGES = "diverges"
  COLLAPSES = "collapses"
  OVERFITS = "overfits"
  WORSENS = "worsens"
  UNSTEADY = "is unsteady"
  EARLY = "is too young to judge"
  SOUND = "shows no warning"


def sentence(run: Run, scores: Scores | None, kind: Kind) -> str:
  """Return what to try next, and why.

  Args:
    run: The run.
    scores: Its evaluations.
    kind: The rule that holds.
  """
  rate = run.number("learning_rate")
  half = (
    f"config.learning_rate={number(rate / 2)}"
    if rate
    else "half the learning rate"
  )
  if kind == Kind.GAVE_UP:
    if run.config.get("precision") not in (None, "float32"):
      return (
        "Try a new run with config.precision=float32, because the numbers of "
        f"{plain(str(run.config['precision']))} overflow sooner."
      )
    return (
      f"Try a new run with {half}, because NaN came back with other random "
      "numbers, so that chance was not the reason."
    )
  if kind in (Kind.DIVERGES, Kind.COLLAPSES):
    if run.config.get("penalty") == "none":
      return (
        "Try a new run with config.penalty=gradient_penalty, because without "
        "any penalty nothing bounds D's slope, by which G is driven."
      )
    return (
      f"Try a new run with {half}, because D has a penalty already and the "
      "step's size is what is left to bound its updates."
    )
  if kind == Kind.OVERFITS:
    more = (
      "config.mirror=True if mirrored images are plausible, or more images"
      if run.config.get("mirror") is False
      else "more images"
    )
    return (
      f"Use {_best(run, scores)} and train again with {more}, because D has "
      "begun to know its images by heart."
    )
  if kind in (Kind.WORSENS, Kind.UNSTEADY):
    return (
      f"Try a new run with {half}, because G still moves too far at each step "
      f"to keep what it had; until then use {_best(run, scores)}."
    )
  return _advice_to_a_sound_run(run, scores, kind)


def _advice_to_a_sound_run(run: Run, scores: Scores | None, kind: Kind) -> str:
  """Return what to try if nothing is wrong."""
  waited = _waiting(run)
  if kind is not Kind.EARLY and waited > _WAITING:
    return (
      "Speed up the input (a local disk, more CPU cores), because the loop "
      f"waited for data in {waited:.0%} of its time."
    )
  if not run.is_done:
    left = _left(run)
    why = (
      "because there is too little to judge"
      if kind == Kind.EARLY
      else "because no rule finds a reason to stop"
    )
    return f"Let it go on{left}, {why}."
  if scores is None or len(scores.values) < 2:
    return (
      "Evaluate more often (config.eval_kimg), because without scores neither "
      "the best checkpoint nor overfitting can be known."
    )
  half = min(
    range(len(scores.kimg)), key=lambda i: abs(scores.kimg[i] - run.kimg / 2)
  )
  then, last = scores.values[half], scores.values[-1]
  if scores.is_worse(then, last):
    longer = number(2 * (run.total_kimg or run.kimg))
    return (
      f"Train longer with --config.total_kimg={longer}, because the score "
      f"still went from {number(then)} at {number(scores.kimg[half])} kimg to "
      f"{number(last)}."
    )
  fakes = scores.protocol.num_fakes
  if fakes and fakes < _FEW_FAKES:
    return (
      f"Evaluate with more than {fakes:,} fakes before anything else, because "
      "the scores have been within 10 % since half-way and so few images give "
      "noisy ones."
    )
  return (
    "Try wider networks (config.base_channels, config.max_channels), because "
    "the scores have been within 10 % since half-way."
  )


def _waiting(run: Run) -> float:
  """Return the share of the loop's time that it waited for data."""
  newest = run.stats[-1]
  data, step = newest.get("secs/data", 0.0), newest.get("secs/step", 0.0)
  return data / (data + step) if step > 0 else 0.0


def _left(run: Run) -> str:
  """Return how far it is to the end, for a sentence."""
  total = run.total_kimg
  if total is None:
    return ""
  speed = median(tail(run.series("images_per_sec")[1]) or [0.0])
  to_go = f" to {number(total)} kimg"
  if speed <= 0:
    return to_go
  secs = (total - run.kimg) * 1000 / speed
  return f"{to_go}, about {duration(secs)} at {number(speed)} images/s"


def _best(run: Run, scores: Scores | None) -> str:
  """Return a name of the best checkpoint, for a sentence."""
  if scores is None:
    return "an earlier checkpoint"
  at = f"the checkpoint of {number(scores.kimg[scores.best])} kimg"
  marked = run.best.get("metric") == scores.protocol.main_value
  return f"{at} (--step=best)" if marked else at


def tail(values: Sequence[float]) -> Sequence[float]:
  """Return the last tenth, at least five."""
  return values[-max(5, len(values) // 10) :]
