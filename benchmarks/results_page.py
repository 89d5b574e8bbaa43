"""Write the tables and plots of docs/results.md from docs/results.jsonl.

python -m benchmarks.results_page
"""

import statistics
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import section
from benchmarks.experiments import folder_of, score
from benchmarks.recipes import COMPARED_WITH, all_runs
from benchmarks.results import ROWS
from benchmarks.section import ROOT
from msggan_jax.runtime import jsonl, plots

PAGE = ROOT / "docs/results.md"


def tables(rows: list[dict]) -> str:
  """Return a section with tables for each part."""
  lines = []
  for part in dict.fromkeys(row["part"] for row in rows):
    ours = [row for row in rows if row["part"] == part]
    missing = [
      run
      for run in all_runs(rows)
      if run.part == part and run.name not in {row["name"] for row in ours}
    ]
    head = ("arm", "stage", "rate", "seed", "kimg", "KID of the scales", "mean")
    lines += [f"### {part}", "", section.table(head, map(_line, ours))]
    hours = sum(row["minutes"] for row in ours) / 60
    lines += [f"{len(ours)} runs, {hours:.1f} hours of a core.", ""]
    lines += _summary(ours)
    if missing:
      lines += [f"{len(missing)} runs of this part are still to be made.", ""]
    plot = plot_of(part)
    if any(row["kid"] for row in ours):
      draw(ours + _references(part, rows), plot)
      lines += [f"![KID of each seed, {part}]({plot.name})", ""]
    write_sheet(ours, sheet := plot.with_suffix(".webp"))
    if sheet.exists():
      lines += [f"![Samples of {', '.join(_arms(ours))}]({sheet.name})", ""]
  return "\n".join(lines) or "No run has ended yet.\n"


def plot_of(part: str) -> Path:
  """Return the file of a part's plot."""
  return PAGE.parent / f"results-{part}.svg"


def draw(rows: list[dict], path: Path) -> None:
  """Draw a point for each finished run, by arm; tuning runs are hollow."""
  arms, color = _arms(rows), plots.COLORS[0]
  figure = Figure(figsize=(8, 0.8 + 0.45 * len(arms)), layout="tight")
  axes = figure.add_subplot()
  for stage, face in (("tune", "none"), ("confirm", color)):
    ended = [row for row in rows if row["stage"] == stage and row["kid"]]
    if not ended:
      continue
    axes.scatter(
      [score(row) for row in ended],
      [arms.index(row["arm"]) for row in ended],
      facecolors=face,
      edgecolors=color,
      label="tuning" if stage == "tune" else "confirming seeds",
    )
  axes.set_yticks(range(len(arms)), arms)
  axes.set_ylim(len(arms) - 0.5, -0.5)
  largest = max(score(row) for row in rows if row["kid"])
  axes.set_xlim(0, 1.05 * largest)  # else the border cuts the last point
  axes.set_xlabel(
    "KID against unseen images, mean of the scales; lower is better"
  )
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
  section.save(figure, path)


def _references(part: str, rows: list[dict]) -> list[dict]:
  """Return the confirming rows of the recipe that a part is compared with."""
  key = ("recipe-cats-progan", "confirm", COMPARED_WITH.get(part))
  return [r for r in rows if (r["part"], r["stage"], r["arm"]) == key]


def write_sheet(rows: list[dict], path: Path) -> None:
  """Write two rows of last samples for each arm, of its last finished run.

  The file stays unchanged if the workdir of an arm's run is missing.
  """
  last = {row["arm"]: row for row in rows if row["kid"]}
  sheets = [_last_samples(folder_of(row["name"])) for row in last.values()]
  if not sheets or None in sheets:
    return
  strips = []
  for sheet in sheets:
    with Image.open(sheet) as image:
      grid = np.asarray(image.convert("RGB"))
    # The top half of a grid, its rows of images in pairs side by side.
    height = grid.shape[0] // 4
    strips.append(np.hstack([grid[:height], grid[height : 2 * height]]))
    strips.append(np.full_like(strips[-1][:4], 255))
  Image.fromarray(np.vstack(strips[:-1])).save(path, quality=85)


def _last_samples(workdir: Path) -> Path | None:
  """Return the last samples of the largest scale; None if there are none."""

  def order(sheet: Path) -> tuple[int, str]:
    return int(sheet.parent.name.partition("x")[0]), sheet.name

  return max(workdir.glob("samples/*x*/*.png"), key=order, default=None)


def _arms(rows: list[dict]) -> list[str]:
  return list(dict.fromkeys(row["arm"] for row in rows))


def _line(row: dict) -> tuple:
  rate = row["fields"]["learning_rate"]
  kids = " / ".join(f"{kid:.3f}" for kid in (row["kid"] or {}).values())
  mean = f"{score(row):.4f}" if kids else "failed"
  first = row["arm"], row["stage"], f"{rate:g}", row["seed"]
  return *first, row.get("kimg", "-"), kids, mean


def _summary(rows: list[dict]) -> list[str]:
  """Return the mean and the range of the confirming seeds, by arm."""
  lines = []
  for arm in _arms(rows):
    kids = [
      score(row)
      for row in rows
      if (row["arm"], row["stage"]) == (arm, "confirm") and row["kid"]
    ]
    if kids:
      lines.append(
        f"- {arm}: mean {statistics.mean(kids):.4f}, from {min(kids):.4f} to "
        f"{max(kids):.4f}, {len(kids)} seed(s)"
      )
  return [*lines, ""] if lines else []


def main() -> None:
  rows = jsonl.read(ROWS)
  section.replace(PAGE, "rows", tables(rows))
  print(f"{PAGE}: {len(rows)} runs")


if __name__ == "__main__":
  main()
