"""Three sentences about a run: its best score, its health, what to try next.

Every rule compares numbers of the run with each other or with a fixed share,
and every sentence has the numbers that it follows from.
"""

import dataclasses
from collections.abc import Sequence
from statistics import median

from msggan_jax.reporting import advice, scores
from msggan_jax.reporting.advice import Kind, tail
from msggan_jax.reporting.records import Run, number, plain
from msggan_jax.reporting.scores import Scores

_FEWEST_ROWS = 20  # before losses are judged
_SETTLED = 0.15  # share of a run after which its pictures are judged
_EXPLODED = 10  # times the earlier losses
_COLLAPSED = 0.75  # of the reals' diversity
_NOISY = 1.3  # times it: more is noise
_WIDENED = 1.1  # times the earlier gap of D
_UNSTEADY = 3  # times the earlier changes between snapshots


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Three sentences.

  Attributes:
    score: The best score with its protocol.
    health: Whether the run overfits or collapses.
    advice: What to try next.
    kind: The rule that decided, such as `Kind.COLLAPSES`.
    scores: Of the run's first metric; None without any.
  """

  score: str
  health: str
  advice: str
  kind: Kind
  scores: Scores | None


def judge(run: Run, diversity: Sequence[tuple[float, float]]) -> Verdict:
  """Judge a run.

  Args:
    run: Its records.
    diversity: `filmstrips.diversity`.
  """
  found = scores.find(run)
  kind, health = _health(run, found, diversity)
  return Verdict(
    score=scores.sentence(run, found),
    health=health,
    advice=advice.sentence(run, found, kind),
    kind=kind,
    scores=found,
  )


def _health(
  run: Run,
  scores: Scores | None,
  diversity: Sequence[tuple[float, float]],
) -> tuple[Kind, str]:
  """Return the first rule that holds, and its sentence."""
  if run.gave_up:
    names = run.gave_up[-1].get("not_finite")
    names = names if isinstance(names, list) else []
    where = plain(" and ".join(map(str, names))) or "its numbers"
    tries = len(run.gave_up)
    return Kind.GAVE_UP, (
      f"It gave up at {number(run.kimg)} kimg: NaN or Inf in {where}, "
      f"{tries} time{'' if tries == 1 else 's'} in a row."
    )
  if len(run.stats) < _FEWEST_ROWS:
    return Kind.EARLY, (
      "It is too early to say whether it overfits or collapses: there are "
      f"{len(run.stats)} log rows, and the rules need {_FEWEST_ROWS}."
    )
  for kind, sentence in (
    (Kind.DIVERGES, _divergence(run)),
    (Kind.COLLAPSES, _collapse(run, diversity)),
    *_worsening(run, scores),
    (Kind.UNSTEADY, _unsteadiness(run)),
  ):
    if sentence:
      return kind, sentence
  return Kind.SOUND, _soundness(run, scores, diversity)


def _divergence(run: Run) -> str:
  for name in ("d_loss", "g_loss"):
    _, values = run.series(name)
    newest = tail(values)
    before = [abs(x) for x in values[: -len(newest)]]
    if len(before) < _FEWEST_ROWS:
      continue
    now, earlier = median(map(abs, newest)), median(before)
    if now > _EXPLODED * earlier and now > 1:
      return (
        f"It diverges: the size of {name} is {number(now)} in the last "
        f"{len(newest)} log rows, {now / max(earlier, 1e-9):.0f} times the "
        "median before."
      )
  return ""


def _collapse(run: Run, diversity: Sequence[tuple[float, float]]) -> str:
  total = run.total_kimg or run.kimg
  if not diversity or diversity[-1][0] < _SETTLED * total:
    return ""
  kimg, now = diversity[-1]
  if now >= _COLLAPSED:
    return ""
  return (
    f"It collapses{'' if now < _COLLAPSED / 2 else ' in part'}: at "
    f"{number(kimg)} kimg an image of the sample grid differs from its nearest "
    f"other one only {now:.2f} times as much as a real image does from its."
  )


def _worsening(run: Run, scores: Scores | None) -> list[tuple[Kind, str]]:
  """Return overfitting, or worse scores without a sign of it."""
  if scores is None or len(scores.values) - scores.best < 3:
    return []  # two evaluations after the best one are needed
  best, last = scores.values[scores.best], scores.values[-1]
  later = scores.values[-2:]
  if not all(scores.is_worse(value, best) for value in later):
    return []
  name, at = scores.protocol.main_value, scores.kimg[scores.best]
  since = (
    f"{name} went from {number(best)} at {number(at)} kimg to {number(last)}"
  )
  then, now = _gap(run, at), _gap(run, run.kimg)
  if then is None or now is None:
    return [(Kind.WORSENS, f"It gets worse: {since}.")]
  gap = (
    "D's gap between the logits of real and generated images from "
    f"{number(then)} to {number(now)}"
  )
  if then > 0 and now > _WIDENED * then:
    return [
      (
        Kind.OVERFITS,
        f"It overfits: {since}, while D sets both apart more: {gap}.",
      )
    ]
  return [(Kind.WORSENS, f"It gets worse without overfitting: {since}, {gap}.")]


def _unsteadiness(run: Run) -> str:
  names = run.names("stability/")
  if not names:
    return ""
  kimg, values = run.series(names[-1])
  total = run.total_kimg or run.kimg
  # The first snapshots change much in every run.
  settled = [
    x for k, x in zip(kimg, values, strict=True) if k > _SETTLED * total
  ]
  if len(settled) < 4:
    return ""
  earlier = median(settled[:-1])
  if settled[-1] <= _UNSTEADY * earlier:
    return ""
  return (
    "It is unsteady: between the last two snapshots the fixed latents' images "
    f"changed by {number(settled[-1])} (mean square), "
    f"{settled[-1] / max(earlier, 1e-9):.1f} times the median before."
  )


def _soundness(
  run: Run,
  scores: Scores | None,
  diversity: Sequence[tuple[float, float]],
) -> str:
  """Return the sentence of a run to which no rule applies."""
  evidence = []
  if diversity:
    ratio = diversity[-1][1]
    noise = ", so that noise still outweighs" if ratio > _NOISY else ""
    evidence.append(
      "an image of the sample grid differs from its nearest other one "
      f"{ratio:.2f} times as much as a real image does from its{noise}"
    )
  if scores is not None and len(scores.values) > 1:
    last, best = scores.values[-1], scores.values[scores.best]
    evidence.append(
      f"the last score, {number(last)}, is the best"
      if scores.best == len(scores.values) - 1
      else f"the last score, {number(last)}, is near the best, {number(best)}"
      if not scores.is_worse(last, best)
      else f"only the last score, {number(last)}, is worse than the best, "
      f"{number(best)}"
    )
  gaps = _gap(run, run.kimg / 2), _gap(run, run.kimg)
  if gaps[0] is not None and gaps[1] is not None:
    evidence.append(
      "D's gap between the logits of real and generated images is "
      f"{number(gaps[1])}, half-way it was {number(gaps[0])}"
    )
  if scores is None or len(scores.values) < 2:
    judged = "Nothing points to a collapse, and without two scores overfitting"
    return f"{judged} cannot be judged: {'; '.join(evidence) or 'few records'}."
  return f"It neither overfits nor collapses: {'; '.join(evidence)}."


def _gap(run: Run, kimg: float) -> float | None:
  """Return the median of real minus fake logits near a time."""
  gaps = [
    (abs(row["kimg"] - kimg), row["real_logits"] - row["fake_logits"])
    for row in run.stats
    if "real_logits" in row and "fake_logits" in row
  ]
  near = sorted(gaps)[: max(5, len(gaps) // 10)]
  return median(gap for _, gap in near) if near else None
