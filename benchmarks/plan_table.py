"""Write the table of TPU slices in docs/performance.md, with libtpu alone.

  python -m benchmarks.plan_table

Each row compiles the real training step, which takes minutes. Finished rows are
stored in docs/plans.jsonl and skipped next time, so the command can be stopped
at any time. Delete a line there to recompile its row.
"""

import datetime
import json
import math
import subprocess
import sys

from benchmarks import section
from benchmarks.section import ROOT
from msggan_jax.runtime import jsonl

PLANS = ROOT / "docs/plans.jsonl"
PAGE = ROOT / "docs/performance.md"

# Preset, resolution, device batch, fields that save memory.
PROGAN_256 = ("msg_progan", 256, 32, {})
PROGAN_1024 = ("msg_progan", 1024, 8, {})
STYLEGAN_256 = ("msg_stylegan", 256, 32, {})
STYLEGAN_1024 = ("msg_stylegan", 1024, 8, {})
ROWS = (
  ("v5e:2x4", *PROGAN_1024),
  ("v5e:2x4", *STYLEGAN_1024),
  ("v5e:2x4", *PROGAN_256),
  ("v5e:2x4", *STYLEGAN_256),
  ("v5e:2x4", "msg_progan", 1024, 16, {}),
  ("v5e:2x4", "msg_progan", 1024, 32, {"remat_from": 64}),
  ("v5e:2x4", "msg_progan", 1024, 16, {"micro_batch_size": 8}),
  ("v5e:2x4", "msg_progan", 256, 64, {}),
  ("v5e:16x16", *PROGAN_1024),
  ("v5e:16x16", *PROGAN_256),
  ("v5e:16x16", *STYLEGAN_1024),
  ("v5e:16x16", *STYLEGAN_256),
  ("v4:2x2x1", *PROGAN_1024),
  ("v4:8x8x16", *PROGAN_1024),
  ("v5p:2x2x1", *PROGAN_1024),
  ("v6e:2x4", *PROGAN_1024),
)


def command(topology, preset, resolution, device_batch, fields):
  """Return the flags of `plan` for a row."""
  fields = {"resolution": resolution, "precision": "bfloat16"} | fields
  return [
    f"--config=configs/ffhq.py:{preset}",
    *(f"--config.{name}={value}" for name, value in fields.items()),
    f"--topology={topology}",
    f"--device_batch_size={device_batch}",
  ]


def compile_row(flags):
  """Compile a row; return its figures, or None if it fails."""
  print("plan", *flags, flush=True)
  result = subprocess.run(
    [sys.executable, "-m", "msggan_jax.plan", *flags, "--json"],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  if result.returncode:
    return None
  numbers = json.loads(result.stdout)
  numbers["date"] = datetime.date.today().isoformat()
  return numbers


def first_cells(row):
  """Return the cells that a row has before it is compiled."""
  topology, preset, resolution, device_batch, fields = row
  chips = math.prod(map(int, topology.partition(":")[2].split("x")))
  saving = ", ".join(f"{name} {value}" for name, value in fields.items())
  size = f"{resolution}²"
  return preset, size, topology, chips, device_batch, saving or "none"


def as_line(row, numbers):
  """Return a row of the table; None: not compiled."""
  if numbers is None:
    return _joined((*first_cells(row), "not compiled", *("",) * 8))
  memory = numbers["hbm_bytes"] / 2**30
  capacity = numbers["hbm_capacity_bytes"] / 2**30
  used = f"{memory:.2f} of {capacity:.0f}"
  if not numbers["fits"]:
    cells = (f"{used}, NO", *("none",) * 5)
  else:
    size = numbers["device_batch_size"]
    step, floor = numbers["step_secs_estimate"]["step"], numbers["floor_secs"]
    cells = (
      used,
      f"{numbers['bytes_accessed'] / size / 1e9:.1f}",
      f"{numbers['collective_bytes'] / 1e6:.1f}",
      f"{size / step:.1f}",
      f"{size / floor:.1f}",
      f"{step / floor:.1f}",
    )
  return _joined(
    (
      *first_cells(row),
      f"{numbers['model_flops_per_image'] / 1e9:.0f}",
      *cells,
      f"{numbers['compile_secs']:.0f}",
      numbers["date"],
    )
  )


def _joined(cells):
  return "| " + " | ".join(map(str, cells)) + " |\n"


def write_page(plans):
  """Replace the table in the page by one of the plans so far."""
  head = (
    "network | size | slice | chips | batch a chip | saving "
    "| GFLOP an image, model | GiB a chip | GB moved an image "
    "| MB all-reduced a step | images/s a chip | floor | time / floor "
    "| compiled in, s | date"
  )
  table = f"| {head} |\n" + "|---" * (head.count("|") + 1) + "|\n"
  for row in ROWS:
    table += as_line(row, plans.get(" ".join(command(*row))))
  section.replace(PAGE, "plans", table)


def main():
  """Compile missing rows; write the table after each."""
  plans = {plan["flags"]: plan for plan in jsonl.read(PLANS)}
  for row in ROWS:
    flags = command(*row)
    key = " ".join(flags)
    if key not in plans:
      numbers = compile_row(flags)
      if numbers is None:
        continue
      plans[key] = {"flags": key} | numbers
      jsonl.append(PLANS, plans[key])
    write_page(plans)


if __name__ == "__main__":
  main()
