"""The evaluations of a run by its first metric, and the best of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from msggan_jax.metrics import protocols
from msggan_jax.metrics.protocols import Protocol
from msggan_jax.reporting.records import Run, number, plain

_WORSE = 0.1  # share of a score: less is noise


@dataclasses.dataclass(frozen=True)
class Scores:
  """The evaluations of one protocol with the same data and weights.

  Attributes:
    protocol: The protocol.
    description: The recipe in words.
    kimg: When.
    values: The numbers.
    best: The place of the best one.
    made_of: Hashes of the data and of the network's weights.
    noise: Twice the largest recorded spread, or 0.
  """

  protocol: Protocol
  description: str
  kimg: Sequence[float]
  values: Sequence[float]
  best: int
  made_of: tuple[Any, Any]
  noise: float

  def is_worse(self, value: float, than: float) -> bool:
    """Return whether a score is worse than another beyond noise."""
    worse = than - value if self.protocol.higher_is_better else value - than
    return worse > max(_WORSE * abs(than), self.noise)


def find(run: Run) -> Scores | None:
  """Return the evaluations of the metric that decides which is best."""
  wanted = str(run.config.get("metrics", "")).split(",")[0].strip()
  for row in reversed(run.metrics):
    recipes = row.get("protocols")
    if not isinstance(recipes, dict):
      continue
    for name in sorted(recipes, key=lambda name: name != wanted):
      protocol = parse(name, row)
      if protocol and isinstance(row.get(protocol.main_value), float):
        return _scores(run, protocol, plain(recipes[name] or name), row)
  return None


def parse(name: str, row: Mapping[str, Any]) -> Protocol | None:
  """Return a row's protocol by name, or None if there is no such one."""
  hashes = row.get("weights_hash")
  extractors = list(hashes) if isinstance(hashes, dict) else []
  try:
    return protocols.parse([name], [protocols.EFFICIENTNET, *extractors])[0]
  except ValueError:
    return None


def sentence(run: Run, scores: Scores | None) -> str:
  """Return a sentence with a run's best score, or why there is none."""
  if scores is not None:
    better = "higher" if scores.protocol.higher_is_better else "lower"
    count = len(scores.values)
    among = "the only evaluation" if count == 1 else f"of {count} evaluations"
    return (
      f"The best {scores.protocol.main_value} is "
      f"{number(scores.values[scores.best])} at "
      f"{number(scores.kimg[scores.best])} kimg, {among} ({better} is better; "
      f"{scores.description})."
    )
  every = run.number("eval_kimg")
  if not every:
    return "There is no score, because config.eval_kimg is 0."
  if run.kimg < every:
    return (
      f"There is no score yet: the first evaluation follows at {number(every)} "
      f"kimg, and the run is at {number(run.kimg)}."
    )
  return (
    f"There is no score, although config.eval_kimg is {number(every)}: the run "
    "had no feature network, or its first evaluation is not done."
  )


def compare(runs: Sequence[Run], scores: Sequence[Scores | None]) -> str:
  """Return a sentence on which of several runs is best."""
  scored = [
    (run, of_run)
    for run, of_run in zip(runs, scores, strict=True)
    if of_run is not None
  ]
  if len(scored) < 2:
    return "Fewer than two of these runs have scores, so none can be compared."
  first = scored[0][1]
  alike = [
    (run, of_run)
    for run, of_run in scored
    if (of_run.protocol, of_run.made_of) == (first.protocol, first.made_of)
  ]
  others = [run.name for run in runs if run not in [r for r, _ in alike]]
  left_out = (
    f" ({', '.join(others)}: other protocol, data or feature weights, or no "
    "score)"
    if others
    else ""
  )
  if len(alike) < 2:
    return f"No two runs have a score by the same protocol and data{left_out}."
  sign = -1 if first.protocol.higher_is_better else 1
  alike.sort(key=lambda pair: sign * pair[1].values[pair[1].best])
  ranks = ", then ".join(
    f"{run.name} with {number(of_run.values[of_run.best])} at "
    f"{number(of_run.kimg[of_run.best])} kimg"
    for run, of_run in alike
  )
  return f"By {first.protocol.main_value} the best is {ranks}{left_out}."


def _scores(
  run: Run, protocol: Protocol, description: str, like: Mapping[str, Any]
) -> Scores | None:
  name = protocol.main_value
  rows = [row for row in run.metrics if isinstance(row.get(name), float)]
  made_of = protocols.made_of(like, protocol)
  alike = {
    row["step"]: row
    for row in rows
    if protocols.made_of(row, protocol) == made_of
  }
  ordered = [alike[step] for step in sorted(alike)]
  best = protocols.best_row(ordered, protocol, like=dict(like))
  if best is None:
    return None
  return Scores(
    protocol=protocol,
    description=description,
    kimg=[row["kimg"] for row in ordered],
    values=[row[name] for row in ordered],
    best=ordered.index(best),
    made_of=made_of,
    noise=2 * max(_spread(row, name) for row in ordered),
  )


def _spread(row: Mapping[str, Any], name: str) -> float:
  found = [row.get(f"{name}{end}") for end in ("_std", "_subsets_error")]
  return max((x for x in found if isinstance(x, float)), default=0.0)
