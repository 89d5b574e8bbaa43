"""The page of the paper's claims, by the rules of `benchmarks.claims`.

Only the claims are typed: figures and verdicts are computed from rows.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks import section
from benchmarks.experiments import (
  Results,
  Rows,
  Run,
  Side,
  Values,
  difference,
  figure,
  score,
)
from benchmarks.section import ROOT
from msggan_jax.runtime import jsonl, plots

PAGE, PLOT = ROOT / "docs/claims.md", ROOT / "docs/claims-depth.svg"
HOLDS, FAILS, NOT_SHOWN = "holds", "does not hold here", "not shown"
EARLY = 0.9  # agreement of scales that show one picture

MSG, MSG_STYLE = ("table-3", "all at 0.003"), ("table-5-stylegan", "cat_lin")
PROGAN, STYLE = ("growing-progan", "grows"), ("growing-stylegan", "grows")
DEPTHS = (32, 64, 128, 256)
SETTING = {  # data and size -> runs of one setting
  "cats, 32²": MSG,
  "cats, 64²": ("table-4", "all"),
  **{f"Earth, {side}²": ("setting", f"Earth, {side}²") for side in (32, 64)},
}
# Runs whose KID is compared: the worse one in the paper, then the better one.
PAIRS: dict[str, tuple[Side, Side]] = {
  "ProGAN - MSG-ProGAN": (PROGAN, MSG),
  "StyleGAN - MSG-StyleGAN": (STYLE, MSG_STYLE),
  "ProGAN, RMSprop - MSG-ProGAN": (("table-3", "grows at 0.003"), MSG),
  "StyleGAN, RMSprop - MSG-StyleGAN": (
    ("growing-stylegan", "grows, RMSprop"),
    MSG_STYLE,
  ),
  **{
    f"{arm} - all, {side}²": ((f"depth-{side}", arm), (f"depth-{side}", "all"))
    for arm in ("none", "control")
    for side in DEPTHS
  },
  **{
    f"Table 4: {a} - {b}": (("table-4", a), ("table-4", b))
    for a, others in (
      ("none", ("coarse", "middle", "fine", "all")),
      *((some, ("all",)) for some in ("coarse", "middle", "fine")),
    )
    for b in others
  },
  **{
    f"φ: {name} - simple": (("table-5-progan", name), MSG)
    for name in ("lin_cat", "cat_lin")
  },
  **{
    f"φ: {name} - cat_lin": (("table-5-stylegan", name), MSG_STYLE)
    for name in ("simple", "lin_cat")
  },
}


class Claim(NamedTuple):
  """A claim of the paper."""

  text: str
  where: str  # in the paper
  test: str
  values: Callable[[Results], dict[str, Values]]


def apart(
  pairs: dict[str, tuple[Side, Side]],
  value: Callable[[dict], float] = score,
) -> Callable[[Results], dict[str, Values]]:
  """Return the differences of pairs, by name."""
  return lambda results: {
    name: results.apart(*sides, value) for name, sides in pairs.items()
  }


def kid_of(beginning: str) -> Callable[[Results], dict[str, Values]]:
  """Return the differences of the pairs whose names begin so."""
  return apart({k: v for k, v in PAIRS.items() if k.startswith(beginning)})


def slopes(results: Results) -> dict[str, Values]:
  """Return how much a difference of KID grows with a doubling, by seed."""
  found = {}
  for arm in ("none", "control"):
    sides = [(f"depth-{side}", of) for side in DEPTHS for of in (arm, "all")]
    seeds = results.complete(*sides)
    found[f"{arm} - all, a doubling"] = seeds and [
      float(np.polyfit(range(len(DEPTHS)), kids[::2] - kids[1::2], 1)[0])
      for kids in (np.array([*map(score, rows)]) for rows in seeds)
    ]
  return found


def rates(results: Results) -> dict[str, Values]:
  """Return by how much more the other forms' KID depends on the rate."""
  arms, tried = ("none", "grows", "all"), (0.001, 0.003, 0.005, 0.01)
  sides = [("table-3", f"{arm} at {x}") for arm in arms for x in tried]
  seeds = results.complete(*sides)
  kids = np.array([[*map(score, rows)] for rows in seeds or ()])
  *others, ours = np.ptp(kids.reshape(-1, len(arms), len(tried)), axis=2).T
  return {
    f"{arm} - all": seeds and (spread - ours).tolist()
    for arm, spread in zip(arms, others, strict=False)
  }


def changes(results: Results) -> dict[str, Values]:
  """Return how much more images change in ProGAN, and earlier."""

  def calmer(side: str) -> Callable[[dict], float]:
    of = "stability_by_kimg"
    return lambda row: row[of]["4"][side] - row[of]["8"][side]

  last = apart(
    {"ProGAN - MSG-ProGAN, 32²": (PROGAN, MSG)},
    lambda row: row["stability_by_kimg"]["8"]["32"],
  )
  return last(results) | {
    f"2 to 4 - 6 to 8 kimg, {side}²": results.each(MSG, calmer(side))
    for side in ("4", "8", "16", "32")
  }


def early(results: Results) -> dict[str, Values]:
  """Return the smallest agreement of the scales at 2 kimg, less `EARLY`."""

  def more(row: dict) -> float:
    return min(row["agreement_by_kimg"]["2"].values()) - EARLY

  return {f"agreement - {EARLY}": results.each(MSG, more)}


def progress(results: Results) -> dict[str, Values]:
  """Return by how much KID falls from 2 to 8 kimg with one setting."""

  def fall(row: dict) -> float:
    return row["kid_by_kimg"]["2"] - row["kid_by_kimg"]["8"]

  return {name: results.each(side, fall) for name, side in SETTING.items()}


def largest(row: dict) -> float:
  return row["kid"]["32"]


def agreement(row: dict) -> float:
  return min(row["agreement"].values())


def teraflops(row: dict) -> float:
  return max(row["flops_by_kimg"].values()) / 1e12


NONE, POOLED = (
  ("agreement-cats-progan", arm) for arm in ("none", "pooled-pixels")
)
RECIPE = ("scales", "single scale"), ("recipe-cats-progan", "pairing, R1 + R2")
CLAIMS = (
  Claim(
    *("MSG-ProGAN is better than ProGAN", "Tables 1, 2"),
    *("KID, 32², after as many images", kid_of("ProGAN -")),
  ),
  Claim(
    *("The same", "Tables 1, 2"),
    *("KID, 32², ProGAN with RMSprop, too", kid_of("ProGAN, RMSprop")),
  ),
  Claim(
    *("MSG-StyleGAN is better than StyleGAN", "Table 1"),
    *("KID, 32², after as many images", kid_of("StyleGAN -")),
  ),
  Claim(
    *("The same", "Table 1"),
    *("KID, 32², StyleGAN with RMSprop, too", kid_of("StyleGAN, RMSprop")),
  ),
  Claim(
    *("All levels at once cost more an image", "limitations"),
    "TFLOP of the products of 8 kimg, 32²",
    apart(
      {
        "MSG-ProGAN - ProGAN": (MSG, PROGAN),
        "MSG-StyleGAN - StyleGAN": (MSG_STYLE, STYLE),
      },
      teraflops,
    ),
  ),
  Claim(
    *("All connections are better than none", "Table 4"),
    *("KID by depth, 16 channels a level", kid_of("none - all")),
  ),
  Claim(
    *("The same", "Table 4"),
    "[KID, 32², pairing recipe, equal FLOPs](results.md#scales)",
    apart({"none - all": RECIPE}, largest),
  ),
  Claim(
    "Any connections are better than none, and all are the best",
    *("Table 4", "KID, 64²", kid_of("Table 4")),
  ),
  Claim(
    *("Gradients at all scales help, not D's view of them", "the reason given"),
    "KID by depth; the control is one image that D sees pooled",
    kid_of("control - all"),
  ),
  Claim(
    *("The same", "the reason given"),
    "[KID, 32², the demo's recipe](agreement.md)",
    apart({"control - all": (POOLED, NONE)}, largest),
  ),
  Claim(
    *("They help more, the more levels there are", "the reason given"),
    *("slope of the differences by depth", slopes),
  ),
  Claim(
    *("The learning rate matters less", "Table 3"),
    *("KID, 32², the worst rate less the best", rates),
  ),
  Claim(
    "The best φ is simple for MSG-ProGAN, cat_lin for MSG-StyleGAN",
    *("Table 5", "KID, 32²", kid_of("φ")),
  ),
  Claim(
    "Images change less from epoch to epoch, and ever less, at all scales",
    *("Figure 6", "mean squared change of 36 latents' images, 32²", changes),
  ),
  Claim(
    *("All scales show one picture early", "Figure 5"),
    *("smallest agreement, 32², at 2 of 8 kimg", early),
  ),
  Claim(
    *("All scales show one picture", "Figure 5"),
    "[smallest agreement, 32², the demo's recipe](agreement.md)",
    apart({"all - control": (NONE, POOLED)}, agreement),
  ),
  Claim(
    *("One setting trains every data set and size", "abstract"),
    *("KID at 2 less that at 8 kimg, MSG-ProGAN", progress),
  ),
)


def verdict(values: dict[str, Values]) -> str:
  """Return whether a claim holds, by the rules."""
  known = [each for each in values.values() if each]
  if any(difference([-x for x in each]).counts for each in known):
    return FAILS
  if len(known) < max(len(values), 1):
    return NOT_SHOWN
  return HOLDS if all(difference(x).counts for x in known) else NOT_SHOWN


def at_equal_flops(results: Results, a: Side, b: Side) -> Values:
  """Return the differences of KID where the cheaper of a pair ends."""
  pairs = results.complete(a, b)

  def kid(row: dict, end: float) -> float:
    flops = [row["flops_by_kimg"][kimg] for kimg in row["kid_by_kimg"]]
    kids = [*row["kid_by_kimg"].values()]
    return float(np.interp(end, flops, kids, left=math.nan))

  ends = [1e12 * min(map(teraflops, pair)) for pair in pairs or ()]
  return pairs and [
    kid(x, end) - kid(y, end) for (x, y), end in zip(pairs, ends, strict=True)
  ]


def draw(results: Results) -> bool:
  """Draw the seeds' differences by depth, if two depths have some."""
  figure = Figure(figsize=(6, 3.5), layout="tight")
  axes = figure.add_subplot()
  drawn = set()
  for place, arm in enumerate(("none", "control")):
    points = [
      (doublings, score(row) - score(results.of((part, "all"))[seed]))
      for doublings, side in enumerate(DEPTHS, 3)
      for part in (f"depth-{side}",)
      for seed, row in results.of((part, arm)).items()
      if seed in results.of((part, "all"))
    ]
    drawn |= {doublings for doublings, _ in points}
    axes.scatter(
      [doublings + 0.16 * place - 0.08 for doublings, _ in points],
      [apart for _, apart in points],
      facecolors="none",
      edgecolors=plots.COLORS[place],
      label=f"{arm} - all",
    )
  if len(drawn) < 2:
    return False
  axes.axhline(0, color="black", linewidth=0.8)
  axes.set_xticks(range(3, 7), [f"{2**n * 4}²" for n in range(3, 7)])
  axes.set_xlabel("size; each has one more doubling")
  axes.set_ylabel("difference of KID")
  axes.legend(fontsize=8)
  section.save(figure, PLOT)
  return True


def text(rows: Rows, runs: Sequence[Run]) -> str:
  """Return the verdicts, the plot, all pairs and all rows."""
  other = [
    row
    for name in ("agreement", "results")
    for row in jsonl.read(ROOT / f"docs/{name}.jsonl")
  ]
  results = Results([*rows, *other], runs)
  lines = []
  for claim in CLAIMS:
    values = claim.values(results)
    figures = [f"{name}: {figure(x)}" for name, x in values.items() if x]
    if missing := len(values) - len(figures):
      figures.append(f"{missing} incomplete")
    lines.append([*claim[:3], "; ".join(figures), verdict(values)])
  head = ("claim", "in the paper", "tested here by", "figures", "verdict")
  parts = [section.table(head, lines)]
  if draw(results):
    parts.append(f"![Differences of KID by depth]({PLOT.name})\n")
  lines = []
  for name, sides in PAIRS.items():
    equal = results.apart(*sides)
    flops = at_equal_flops(results, *sides)
    lines.append([name, figure(equal), figure(flops), verdict({name: equal})])
  head = ("pair", "equal images", "equal FLOPs", "above 0")
  parts += ["### Differences of KID\n", section.table(head, lines)]
  head = ("part", "arm", "seed", "KID at 2, 4, 6, 8 kimg", "TFLOP", "min")
  lines = [line(row) for row in rows]
  hours = sum(row["minutes"] for row in rows) / 60
  parts += [f"### Rows: {len(rows)} of {len(runs)} runs, {hours:.1f} hours\n"]
  return "\n".join([*parts, section.table(head, lines)])


def line(row: dict) -> list:
  """Return a run's cells of the table."""
  names = [row["part"], row["arm"], row["seed"]]
  if row["kid"] is None:
    return [*names, f"code {row['exit_code']}", "", ""]
  kids = " / ".join(f"{x:.3f}" for x in row["kid_by_kimg"].values())
  minutes = f"{row['train_secs'] / 60:.0f}"
  return [*names, kids, f"{teraflops(row):.2f}", minutes]
