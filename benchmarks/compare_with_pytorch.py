"""Compare our training step with PyTorch's, in turn, on this machine's CPU.

  python benchmarks/compare_with_pytorch.py --rounds=2

Needs torch (pip install '.[benchmark]'), optionally in another interpreter:
--torch_python=PATH. Each run is a separate process. A ratio above 1 means that
ours is faster; it is valid only on an idle machine.
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
SIZES = {
  "latent_size": 128,
  "max_channels": 128,
  "base_channels": 4096,
  "batch_size": 16,
}
CASES = (
  (32, "relativistic_hinge", "none"),
  (64, "relativistic_hinge", "none"),
  (32, "wasserstein", "gradient_penalty"),
  (64, "wasserstein", "gradient_penalty"),
)


def time_pytorch(python: str, fields: dict, steps: int) -> float:
  """Return the seconds of PyTorch's median step."""
  command = [python, str(HERE / "pytorch_bmsg_gan.py"), f"--steps={steps}"]
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
        "--config.optimizer=rmsprop",
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
  parser.add_argument("--torch_python", default=sys.executable)
  parser.add_argument("--rounds", type=int, default=2, help="A B, A B, ...")
  parser.add_argument("--steps", type=int, default=6, help="timed in each run")
  parser.add_argument(
    "--devices", type=int, default=os.cpu_count(), help="CPU devices of ours"
  )
  args = parser.parse_args()
  print("| case | PyTorch, s | ours, s | ours, one device, s | ratio |")
  print("|---|---|---|---|---|", flush=True)
  for resolution, loss, penalty in CASES:
    fields = SIZES | {
      "resolution": resolution,
      "loss": loss,
      "penalty": penalty,
    }
    runs = [
      (
        time_pytorch(args.torch_python, fields, args.steps),
        time_ours(args.devices, fields, args.steps),
        time_ours(1, fields, args.steps),
      )
      for _ in range(args.rounds)
    ]
    columns = list(zip(*runs, strict=True))
    cells = ["-".join(f"{s:.2f}" for s in sorted(c)) for c in columns]
    best = min(columns[0]) / min(map(min, columns[1:]))
    print(
      f"| {resolution}x{resolution}, {loss}, {penalty} | "
      f"{' | '.join(cells)} | {best:.2f} |",
      flush=True,
    )


if __name__ == "__main__":
  main()
