"""Write the tables of TPUs and GPUs in docs/performance.md, by compilers alone.

  python -m benchmarks.plan_table

It needs libtpu for the one, the extra plan-gpu for the other. Each row compiles
the real training step, which takes minutes. Finished rows are stored in
docs/plans.jsonl and skipped next time, so the command can be stopped at any
time. Delete a line there to recompile its row.
"""

import datetime
import json
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
GPU_ROWS = (
  ("h100", "msg_progan", 256, 16, {}),
  ("h100", "msg_progan", 256, 16, {"precision": "float32"}),
  ("h100", "msg_progan", 1024, 4, {}),
  ("h100:8", "msg_progan", 256, 4, {}),
  ("a100", "msg_progan", 256, 16, {}),
)


def command(topology, preset, resolution, device_batch, fields):
  """Return the flags of `plan` for a row."""
  fields = {"resolution": resolution, "precision": "bfloat16"} | fields
  flag = "topology" if "x" in topology else "gpu"
  return [
    f"--config=configs/ffhq.py:{preset}",
    *(f"--config.{name}={value}" for name, value in fields.items()),
    f"--{flag}={topology}",
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


def _memory(plan):
  used, capacity = plan["hbm_bytes"] / 2**30, plan["hbm_capacity_bytes"] / 2**30
  return f"{used:.2f} of {capacity:.0f}{'' if plan['fits'] else ', NO'}"


def _step(plan):
  return plan["step_secs_estimate"]["step"]


# Columns, with their cells as functions of a plan. A step that does not fit has
# the first two.
TPU_COLUMNS = {
  "GFLOP an image, model": lambda p: f"{p['model_flops_per_image'] / 1e9:.0f}",
  "GiB a chip": _memory,
  "GB moved an image": lambda p: (
    f"{p['bytes_accessed'] / p['device_batch_size'] / 1e9:.1f}"
  ),
  "MB all-reduced a step": lambda p: f"{p['collective_bytes'] / 1e6:.1f}",
  "images/s a chip": lambda p: f"{p['device_batch_size'] / _step(p):.1f}",
  "floor": lambda p: f"{p['device_batch_size'] / p['floor_secs']:.1f}",
  "time / floor": lambda p: f"{_step(p) / p['floor_secs']:.1f}",
}
GPU_COLUMNS = {
  "GFLOP an image, model": TPU_COLUMNS["GFLOP an image, model"],
  "GiB a GPU": _memory,
  "kernels": lambda p: f"{p['kernels']:,}",
  "convolutions": lambda p: ", ".join(
    f"{count} {name}" for name, count in p["convolutions"].items()
  ),
  "GB moved an image": lambda p: f"{p['bytes_per_image'] / 1e9:.2f}",
  "floor, GB": lambda p: f"{p['floor_bytes_per_image'] / 1e9:.2f}",
  "bytes / floor": lambda p: (
    f"{p['bytes_per_image'] / p['floor_bytes_per_image']:.1f}"
  ),
  "all-reduces": lambda p: (
    f"{p['collective_calls']}, {p['collective_bytes'] / 1e6:.0f} MB"
  ),
  "images/s a GPU": TPU_COLUMNS["images/s a chip"],
  "floor, images/s": TPU_COLUMNS["floor"],
}


def table(rows, columns, chips, plans):
  """Return a table of the plans so far, a line a row."""
  head = ["network", "size", *chips, "fields", *columns]
  head += ["compiled in, s", "date"]
  lines = []
  for row in rows:
    topology, preset, resolution, device_batch, fields = row
    saving = ", ".join(f"{name} {value}" for name, value in fields.items())
    cells = [preset, f"{resolution}²", topology, device_batch, saving or "none"]
    plan = plans.get(" ".join(command(*row)))
    if plan is None:
      cells += ["not compiled"] + [""] * (len(columns) + 1)
    else:
      shown = list(columns.values())[: None if plan["fits"] else 2]
      cells += [cell(plan) for cell in shown]
      cells += ["none"] * (len(columns) - len(shown))
      cells += [f"{plan['compile_secs']:.0f}", plan["date"]]
    lines.append(cells)
  return section.table(head, lines)


def write_page(plans):
  """Replace the tables in the page by those of the plans so far."""
  chips = ("slice", "batch a chip")
  section.replace(PAGE, "plans", table(ROWS, TPU_COLUMNS, chips, plans))
  gpus = ("GPUs", "batch a GPU")
  section.replace(PAGE, "gpus", table(GPU_ROWS, GPU_COLUMNS, gpus, plans))


def main():
  """Compile missing rows; write the tables after each."""
  plans = {plan["flags"]: plan for plan in jsonl.read(PLANS)}
  for row in (*GPU_ROWS, *ROWS):
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
