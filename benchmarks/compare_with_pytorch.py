"""Compare our training step with the authors' BMSG-GAN, in turn, on this CPU.

  git clone https://github.com/akanimax/BMSG-GAN
  python benchmarks/compare_with_pytorch.py --source=BMSG-GAN/sourcecode

Needs torch (pip install '.[benchmark]'), optionally in another interpreter:
--torch_python=PATH. Each run is a separate process. The ratio is that of the
best median of PyTorch's three modes to the best of ours; it is valid only on an
idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MODES = ("eager", "channels_last", "compile")
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
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "speed.json")
    subprocess.run(
      [
        sys.executable,
        "-m",
        "msggan_jax.benchmark",
        "--config=configs/presets/bmsg_gan.py",
        *(f"--config.{name}={value}" for name, value in fields.items()),
        f"--steps={steps}",
        f"--json={path}",
      ],
      check=True,
      stdout=subprocess.DEVNULL,
      cwd=HERE.parent,
      env=os.environ
      | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
    )
    return json.loads(path.read_text())["step_secs"]


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
    ours = common | WIDTHS | {"penalty": penalty}
    runs = [
      [
        *(
          time_pytorch([*pytorch, f"--mode={mode}"], common, args.steps)
          for mode in MODES
        ),
        time_ours(args.devices, ours, args.steps),
        time_ours(1, ours, args.steps),
      ]
      for _ in range(args.rounds)
    ]
    columns = list(zip(*runs, strict=True))
    cells = ["-".join(f"{s:.2f}" for s in sorted(c)) for c in columns]
    best, of_ours = (
      min(map(min, part))
      for part in (columns[: len(MODES)], columns[len(MODES) :])
    )
    print(
      f"| {resolution}x{resolution}, {loss}, {penalty} | "
      f"{' | '.join(cells)} | {best / of_ours:.2f} |",
      flush=True,
    )


if __name__ == "__main__":
  main()
