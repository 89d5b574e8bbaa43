"""Write the tables of TPUs and GPUs in docs/, by compilers alone.

  python -m benchmarks.plan_table

It needs libtpu for the one, the extra plan-gpu for the other. Each row compiles
the real training step, which takes minutes. Finished rows are stored in
docs/plans.jsonl and skipped next time, so the command can be stopped at any
time. Delete a line there to recompile its row.
"""

import datetime
import json
import runpy
import subprocess
import sys
import textwrap

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
  ("h100", "msg_progan", 256, 16, {"precision": "float32_fast"}),
  ("h100", "msg_progan", 1024, 4, {}),
  ("h100", "msg_stylegan", 256, 16, {}),
  ("h100", "msg_stylegan", 1024, 4, {}),
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


# The rows of the paper's tables: data set, preset, the paper's figure, fields.
_EIGHT = {  # of ProGAN's authors, for eight GPUs
  "grow_batch_sizes": "4:512,8:256,16:128,32:64,64:32",
  "grow_learning_rates": "128:0.0015,256:0.002,512:0.003",
}
FULL_SIZE = {
  1: (
    ("oxford_flowers", "progan", "FID 58.60", _EIGHT),
    ("oxford_flowers", "msg_progan", "FID 28.27", {}),
    ("oxford_flowers", "stylegan", "FID 64.70", {}),
    ("oxford_flowers", "msg_stylegan", "FID 19.60", {}),
    ("indian_celebs", "progan", "FID 67.49", _EIGHT),
    ("indian_celebs", "msg_progan", "FID 36.72", {}),
    ("indian_celebs", "stylegan", "FID 61.22", {}),
    ("indian_celebs", "msg_stylegan", "FID 28.44", {}),
    ("lsun_church", "stylegan", "FID 6.58", {}),
    ("lsun_church", "msg_stylegan", "FID 5.20", {}),
  ),
  2: (
    ("celebahq", "msg_stylegan", "FID 6.37, length not published; here", {}),
    ("ffhq", "progan", "FID 9.49", _EIGHT),
    ("ffhq", "msg_progan", "FID 8.36", {}),
    ("ffhq", "stylegan", "FID 4.40", {}),
    ("ffhq", "msg_stylegan", "FID 5.80", {}),
  ),
  3: tuple(
    ("cifar10", "msg_progan", f"IS {score}", {"learning_rate": rate})
    for rate, score in (
      (0.001, 8.24),
      (0.003, 8.63),
      (0.005, 8.33),
      (0.01, 7.92),
    )
  ),
}
EIGHT_DEVICES = ("v5e:2x4", "h100:8")
PATHS = {  # of data that cannot be downloaded
  "indian_celebs": "celebs",
  "lsun_church": "church_outdoor_train_lmdb",
  "ffhq": "images1024x1024",
}
_GROWN = {256: "oxford_flowers", 1024: "ffhq"}  # planned for all of their size
_COMMON = ["--config.precision=bfloat16", "--config.batch_size=auto"]


def full_size_command(config, preset, own, topology):
  """Return the flags of `plan` for such a run on eight devices.

  Runs share the plan of a network and a size: on eight devices "auto" makes the
  batches of all data sets equal, and stages differ in their lengths alone.
  """
  if not config.grow_from:
    return command(topology, preset, config.resolution, 4, {})
  kind = "topology" if "x" in topology else "gpu"
  file = f"--config=configs/{_GROWN[config.resolution]}.py:{preset}"
  return [file, *own, *_COMMON, f"--{kind}={topology}"]


def full_size(plans):
  """Return the commands of full-size runs, and the flags of all their plans."""
  lines, wanted = [], []
  for number, runs in FULL_SIZE.items():
    for data, preset, score, fields in runs:
      file = runpy.run_path(str(ROOT / f"configs/{data}.py"))
      config = file["get_config"](preset)
      own = [f"--config.{name}={value}" for name, value in fields.items()]
      flags = [f"--config=configs/{data}.py:{preset}", *own]
      about = [f"# Table {number}: {score} after {config.total_kimg:g} kimg"]
      for topology in EIGHT_DEVICES:
        wanted.append(full_size_command(config, preset, own, topology))
        plan = plans.get(" ".join(wanted[-1]))
        about.append(f"{topology}: {_memory_and_days(plan, config)}")
      if data in PATHS:
        flags.append(f"--config.dataset.path={PATHS[data]}")
      rate = fields.get("learning_rate", "")
      name = f"{data}-{preset}{rate and f'-{rate}'}"
      words = [*flags, *_COMMON, f"--workdir=runs/{name}"]
      command = " ".join(["python -m msggan_jax.main", *words])
      lines += ["; ".join(about), *_wrapped(command)]
  return "\n".join(["```sh", *lines, "```\n"]), wanted


def _memory_and_days(plan, config):
  if not (plan and plan["fits"]):
    return _memory(plan) if plan else "not compiled"
  secs = 1000 * config.total_kimg / plan["images_per_sec_estimate"]
  if stages := plan.get("stages"):
    last = config.total_kimg - sum(stage["kimg"] for stage in stages[:-1])
    kimg = [*(stage["kimg"] for stage in stages[:-1]), last]
    speeds = [stage["images_per_sec_estimate"] for stage in stages]
    secs = sum(1000 * k / speed for k, speed in zip(kimg, speeds, strict=True))
  return f"{_memory(plan)} GiB a device, {secs / 86400:.2g} days"


def _wrapped(command):
  lines = textwrap.wrap(
    command,
    86,
    subsequent_indent="    ",
    break_long_words=False,
    break_on_hyphens=False,
  )
  return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


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
  section.replace(ROOT / "docs/claims.md", "full size", full_size(plans)[0])


def main():
  """Compile missing rows; write the tables after each."""
  plans = {plan["flags"]: plan for plan in jsonl.read(PLANS)}
  wanted = [command(*row) for row in (*GPU_ROWS, *ROWS)]
  for key in dict.fromkeys(map(" ".join, wanted + full_size(plans)[1])):
    if key not in plans:
      numbers = compile_row(key.split())
      if numbers is None:
        continue
      plans[key] = {"flags": key} | numbers
      jsonl.append(PLANS, plans[key])
    write_page(plans)


if __name__ == "__main__":
  main()
