"""Compare our training step with the authors' BMSG-GAN, in turn, on this CPU.

  git clone https://github.com/akanimax/BMSG-GAN
  python -m benchmarks.compare_with_pytorch --source=BMSG-GAN/sourcecode

Needs torch (pip install '.[benchmark]'), optionally in another interpreter:
--torch_python=PATH. Each run is a separate process. PyTorch has three modes,
each in float32 and in bfloat16 (autocast). The last column is PyTorch's best
median to our best, both in any precision; it is valid only on an idle machine.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.timed_step import time_step

HERE = Path(__file__).parent
MODES = ("eager", "channels_last", "compile")
PRECISIONS = ("float32", "bfloat16")
SIZES = {"latent_size": 128, "batch_size": 16}
# The authors' networks have these widths.
WIDTHS = {"max_channels": 128, "base_channels": 4096}
CASES = (
  (32, "relativistic_hinge", "none"),
  (64, "relativistic_hinge", "none"),
  (32, "wasserstein", "gradient_penalty"),
  (64, "wasserstein", "gradient_penalty"),
)


def time_pytorch(command: list[str], fields: dict, steps: int) -> float:
  """Return the seconds of PyTorch's median step."""
  command = [*command, f"--steps={steps}"]
  command += [f"--{name}={value}" for name, value in fields.items()]
  result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
  return statistics.median(json.loads(result.stdout)["step_secs"])


def time_ours(devices: int, fields: dict, steps: int) -> float:
  """Return the seconds of our median step on so many CPU devices."""
  config = "configs/default.py:bmsg_gan"
  return time_step(config, fields, steps=steps, devices=devices)["step_secs"]


def main() -> None:
  """Print a table of the cases, one line as soon as it is known."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--source", required=True, help="BMSG-GAN/sourcecode")
  parser.add_argument("--torch_python", default=sys.executable)
  parser.add_argument("--rounds", type=int, default=2, help="A B, A B, ...")
  parser.add_argument("--steps", type=int, default=6, help="timed in each run")
  parser.add_argument(
    "--devices", type=int, default=os.cpu_count(), help="CPU devices of ours"
  )
  args = parser.parse_args()
  if not Path(args.source, "MSG_GAN").is_dir():
    parser.error(f"--source={args.source} has no MSG_GAN; clone BMSG-GAN")
  if subprocess.run(
    [args.torch_python, "-c", "import torch"], stderr=subprocess.DEVNULL
  ).returncode:
    parser.error(
      f"{args.torch_python} has no torch: pip install '.[benchmark]'"
    )
  pytorch = [args.torch_python, str(HERE / "pytorch_bmsg_gan.py")]
  pytorch += [f"--source={Path(args.source).resolve()}"]
  print(f"| case | {' | '.join(MODES)} | ours, several devices | one | ratio |")
  print("|---|---|---|---|---|---|---|", flush=True)
  for resolution, loss, penalty in CASES:
    common = SIZES | {"resolution": resolution, "loss": loss}
    theirs = {p: [[] for _ in MODES] for p in PRECISIONS}
    mine = {p: [[], []] for p in PRECISIONS}
    for _, precision in itertools.product(range(args.rounds), PRECISIONS):
      fields = common | {"precision": precision}
      for mode, secs in zip(MODES, theirs[precision], strict=True):
        command = [*pytorch, f"--mode={mode}"]
        secs.append(time_pytorch(command, fields, args.steps))
      fields |= WIDTHS | {"penalty": penalty}
      for n, secs in zip((args.devices, 1), mine[precision], strict=True):
        secs.append(time_ours(n, fields, args.steps))
    ratio = _best(theirs) / _best(mine)
    for precision in PRECISIONS:
      columns = [*theirs[precision], *mine[precision]]
      cells = ["-".join(f"{s:.2f}" for s in sorted(c)) for c in columns]
      print(
        f"| {resolution}x{resolution}, {loss}, {penalty}, {precision} | "
        f"{' | '.join(cells)} | {ratio:.2f} |",
        flush=True,
      )


def _best(secs: dict[str, list[list[float]]]) -> float:
  return min(s for columns in secs.values() for c in columns for s in c)


if __name__ == "__main__":
  main()
