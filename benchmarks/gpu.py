"""Measure on a GPU what `plan --gpu` estimates, and check its arithmetic.

  python -m benchmarks.gpu --gpu=h100

For each size and precision of configs/ffhq.py: the measured speed and memory of
20 steps beside the plan's. Then bfloat16 convolutions with stride and dilation
on our shapes (jax-ml/jax#37922), and the golden numbers in float32. Each part
is a process of its own, and a failure ends no other part. It needs the extras
cuda and test. Without --gpu, the plan is that of this machine.
"""

import argparse
import os
import subprocess
import sys

from benchmarks.plan_table import compile_row
from benchmarks.section import ROOT
from benchmarks.timed_step import time_step

PRECISIONS = ("float32", "float32_fast", "bfloat16")
BATCHES = {256: 16}  # a GPU's, by size
CONVOLUTIONS = """
import jax, jax.numpy as jnp
from msggan_jax.kernels import plain
for side, channels in ((64, 256), (256, 64)):
  x = jax.random.normal(jax.random.key(0), (4, side, side, channels))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
  for options in ({"strides": (2, 2)}, {"dilation": (2, 2)}):
    def gradients(x, kernel):
      loss = lambda *a: jnp.square(
        plain.convolve(*a, padding=[(1, 1), (1, 1)], **options)
      ).mean(dtype=jnp.float32)
      return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    true = gradients(x, kernel)
    try:
      ours = gradients(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
      errors = [
        float(jnp.linalg.norm(a.astype(b.dtype) - b) / jnp.linalg.norm(b))
        for a, b in zip(ours, true)
      ]
    except jax.errors.JaxRuntimeError as error:
      errors = str(error).splitlines()[0]
    print(side, channels, options, "relative errors of the gradients:", errors)
"""


def measure(gpu: str | None, steps: int, fields: dict) -> str:
  """Return a line of the table: measured and planned."""
  flags = [f"--config.{name}={value}" for name, value in fields.items()]
  plan = compile_row(
    ["--config=configs/ffhq.py", *flags, *([f"--gpu={gpu}"] if gpu else [])]
  )
  cells = [fields["resolution"], fields["precision"], fields["batch_size"]]
  try:
    real = time_step("configs/ffhq.py", fields, steps=steps, devices=None)
    cells += [real["compile_secs"], real["images_per_sec"]]
  except subprocess.CalledProcessError as error:
    real, cells = None, [*cells, f"ended with code {error.returncode}", ""]
  cells += [plan["images_per_sec_estimate"] if plan else ""]
  cells += [real["peak_memory_bytes"] / 2**30 if real else ""]
  cells += [plan["hbm_bytes"] / 2**30 if plan else ""]
  shown = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in cells)
  return f"| {' | '.join(shown)} |"


def main() -> None:
  """Print the table, the convolutions' errors and the tests' result."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--gpu", help="as in plan --gpu")
  parser.add_argument("--sizes", default="256,1024")
  parser.add_argument("--steps", type=int, default=20)
  parser.add_argument(
    "--field", action="append", default=[], help="such as max_channels=64"
  )
  arguments = parser.parse_args()
  more = dict(field.split("=", 1) for field in arguments.field)
  print(
    "| size | precision | batch | compiled in, s | images/s | planned | GiB "
    "| planned |\n" + "|---" * 8 + "|"
  )
  for size in map(int, arguments.sizes.split(",")):
    for precision in PRECISIONS:
      fields = {"resolution": size, "precision": precision}
      fields |= {"batch_size": BATCHES.get(size, 4)} | more
      print(measure(arguments.gpu, arguments.steps, fields), flush=True)
  subprocess.run([sys.executable, "-c", CONVOLUTIONS], cwd=ROOT)
  golden = ["pytest", "-q", "-n0", "tests/checkpoints/test_golden.py"]
  platform = {"MSGGAN_TEST_PLATFORM": "cuda" if arguments.gpu else "cpu"}
  subprocess.run(
    [sys.executable, "-m", *golden, "-k", "not float64"],
    cwd=ROOT,
    env=os.environ | platform,
  )


if __name__ == "__main__":
  main()
