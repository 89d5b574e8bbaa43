"""Three sentences about a run: its best score, its health, what to try next.

Every rule compares numbers of the run with each other or with a fixed share,
and every sentence has the numbers that it follows from.
"""

from statistics import median

from msggan_jax.reporting.records import Run, number, plain
from msggan_jax.runtime.clock import duration
from msggan_jax.runtime.errors import counted

_FEWEST_ROWS = 20  # before losses are judged
_SETTLED = 0.15  # share of a run after which its pictures are judged
_EXPLODED = 10  # times the earlier losses
# Of the reals' diversity. 36 images of the demo have 0.89, give or take 0.07.
_COLLAPSED = 0.65
_WIDENED = 1.1  # times the earlier gap of D
_WAITING = 0.2  # share of the loop's time spent on data

# The rule that holds, a sentence on health, and what to try next.
Finding = tuple[str, str, str]


def judge(run: Run) -> Finding:
  """Return the first rule that holds."""
  rules = (_gave_up, _is_young, _diverges, _collapses, _declines)
  found = next(filter(None, (rule(run) for rule in rules)), None)
  return found or ("shows no warning", _soundness(run), _go_on(run))


def best_score(run: Run) -> str:
  """Return a sentence with a run's best score, or why there is none."""
  scores = run.scores
  if scores is None:
    return (
      "There is no score: evaluations follow every "
      f"{number(run.number('eval_kimg') or 0)} kimg (config.eval_kimg; 0: "
      "never), and need a feature network."
    )
  better = "higher" if scores.protocol.higher_is_better else "lower"
  return (
    f"The best {scores.protocol.main_value} is {number(scores.best)} at "
    f"{number(scores.best_kimg)} kimg, of "
    f"{counted(len(scores.points), 'evaluation')} ({better} is better; "
    f"{scores.description})."
  )


def _gave_up(run: Run) -> Finding | None:
  report, precision = run.not_finite, run.config.get("precision")
  found = report.get("attempts")
  found = found if isinstance(found, list) else []
  attempts = [attempt for attempt in found if isinstance(attempt, dict)]
  if report.get("continued") or not attempts:
    return None
  names = attempts[-1].get("not_finite")
  names = names if isinstance(names, list) else ["its numbers"]
  where = plain(" and ".join(map(str, names)))
  advice = "Give the same command with --new_randomness: it may be chance."
  if len(attempts) > 1:
    advice = f"{_gentler(run)}."
    if precision not in (None, "float32"):
      advice = (
        "Try a new run with config.precision=float32: it overflows later."
      )
  health = f"It gave up at {number(run.kimg)} kimg: NaN or Inf in {where}."
  return "gave up", health, advice


def _is_young(run: Run) -> Finding | None:
  count = len(run.stats)
  if count >= _FEWEST_ROWS:
    return None
  return (
    "is too young to judge",
    "It is too early to say whether it overfits or collapses: there are "
    f"{count} log rows, and the rules need {_FEWEST_ROWS}.",
    f"Train longer{_left(run)}, or log more often (config.log_kimg).",
  )


def _diverges(run: Run) -> Finding | None:
  for name in ("d_loss", "g_loss"):
    values = [value for _, value in run.series(name)]
    newest = values[-max(5, len(values) // 10) :]
    before = [abs(x) for x in values[: -len(newest)]]
    if len(before) < _FEWEST_ROWS:
      continue
    now, earlier = median(map(abs, newest)), median(before)
    if now > _EXPLODED * earlier and now > 1:
      health = (
        f"It diverges: the size of {name} is {number(now)} in the last "
        f"{len(newest)} log rows, {now / max(earlier, 1e-9):.0f} times the "
        "median before."
      )
      return "diverges", health, f"{_gentler(run)}."
  return None


def _collapses(run: Run) -> Finding | None:
  kimg, now = (run.series("diversity") or [(0.0, 1.0)])[-1]
  if now >= _COLLAPSED or kimg <= _SETTLED * run.total_kimg:
    return None
  health = (
    f"It collapses{'' if now < _COLLAPSED / 2 else ' in part'}: at "
    f"{number(kimg)} kimg an image differs from its nearest other one only "
    f"{now:.2f} times as much as a real image does from its."
  )
  return "collapses", health, f"{_gentler(run)}."


def _declines(run: Run) -> Finding | None:
  """Return overfitting, or worse scores without a sign of it."""
  scores = run.scores
  if scores is None:
    return None
  newest = scores.points[-2:]  # both are after the best one
  if not all(scores.is_worse(x, scores.best) for _, x in newest):
    return None
  worse = (
    f"{scores.protocol.main_value} went from {number(scores.best)} at "
    f"{number(scores.best_kimg)} kimg to {number(newest[-1][1])}"
  )
  then, now = _gap(run, scores.best_kimg), _gap(run, run.kimg)
  gaps = (
    "D's gap between the logits of real and generated images from "
    f"{number(then)} to {number(now)}"
  )
  if not now > _WIDENED * then > 0:
    health = f"It gets worse without overfitting: {worse}, {gaps}."
    best = _best_checkpoint(run)
    return "worsens", health, f"{_gentler(run)}; until then use {best}."
  mirror = "or with config.mirror=True if mirrored images are plausible, "
  return (
    "overfits",
    f"It overfits: {worse}, while D sets both apart more: {gaps}.",
    f"Use {_best_checkpoint(run)} and train again with more images, "
    f"{'' if run.config.get('mirror') else mirror}"
    "because D has begun to know its images by heart.",
  )


def _soundness(run: Run) -> str:
  """Return the sentence of a run to which no rule applies."""
  scores, seen = run.scores, "few records"
  if diversity := run.series("diversity"):
    seen = (
      "an image differs from its nearest other one "
      f"{diversity[-1][1]:.2f} times as much as a real image does from its"
    )
  if scores is None or len(scores.points) < 2:
    judged = "Nothing points to a collapse, and without two scores overfitting"
    return f"{judged} cannot be judged: {seen}."
  last, best = number(scores.points[-1][1]), number(scores.best)
  return (
    f"It neither overfits nor collapses: {seen}; the last score is {last}, the "
    f"best {best}."
  )


def _go_on(run: Run) -> str:
  scores = run.scores
  data = run.stats[-1].get("secs/data", 0.0)
  loop = data + run.stats[-1].get("secs/step", 0.0)
  if data > _WAITING * loop:
    return (
      "Speed up the input (a local disk, more CPU cores), because the loop "
      f"waited for data in {data / loop:.0%} of its time."
    )
  if not run.is_done:
    return f"Let it go on{_left(run)}, because no rule finds a reason to stop."
  if scores is None or len(scores.points) < 2:
    return (
      "Evaluate more often (config.eval_kimg), because without scores neither "
      "the best checkpoint nor overfitting can be known."
    )
  kimg, then = min(scores.points, key=lambda x: abs(x[0] - run.kimg / 2))
  last = scores.points[-1][1]
  if scores.is_worse(then, last):
    return (
      f"Train longer with --config.total_kimg={2 * run.kimg:g}, because "
      f"the score still went from {number(then)} at {number(kimg)} kimg to "
      f"{number(last)}."
    )
  return (
    "Try wider networks (config.base_channels, config.max_channels) or score "
    f"more fakes, because the score went from {number(then)} at {number(kimg)} "
    f"kimg to {number(last)}, which is no sure gain."
  )


def _gentler(run: Run) -> str:
  """Return what bounds the networks' updates, for a sentence."""
  if run.config.get("penalty") == "none":
    return (
      "Try a new run with config.penalty=gradient_penalty, because nothing "
      "bounds D's slope, by which G is driven"
    )
  rate = run.number("learning_rate")
  half = f" (config.learning_rate={number(rate / 2)})" if rate else ""
  if run.config.get("grow_learning_rates"):
    half = " (config.learning_rate and config.grow_learning_rates)"
  return f"Try a new run with half the learning rate{half}"


def _best_checkpoint(run: Run) -> str:
  at = f"the checkpoint of {number(run.scores.best_kimg)} kimg"
  marked = run.best.get("metric") == run.scores.protocol.main_value
  return f"{at} (--step=best)" if marked else at


def _gap(run: Run, kimg: float) -> float:
  """Return the median of real minus fake logits near a time; 0: no logits."""
  gaps = [
    (abs(row["kimg"] - kimg), row["real_logits"] - row["fake_logits"])
    for row in run.stats
    if {"real_logits", "fake_logits"} <= row.keys()
  ]
  near = sorted(gaps)[: max(5, len(gaps) // 10)]
  return median(gap for _, gap in near) if near else 0.0


def _left(run: Run) -> str:
  speeds = [x for _, x in run.series("images_per_sec")[-9:] if x > 0]
  if run.is_done or not speeds:
    return ""
  secs = (run.total_kimg - run.kimg) * 1000 / median(speeds)
  return (
    f" to {number(run.total_kimg)} kimg, about {duration(secs)} at "
    f"{number(median(speeds))} images/s"
  )
