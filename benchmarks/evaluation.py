"""Time an evaluation by parts here, and estimate its share of training.

  python -m benchmarks.evaluation              parts at a small size, measured
  python -m benchmarks.evaluation --share      every configuration, estimated

Parts of one batch: generate, convert to uint8, extract features; then distances
of random features of Inception's size. CPU seconds count all cores, so that
they hold on a busy machine.
"""

import argparse
import runpy
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from msggan_jax import metrics
from msggan_jax.algorithm import program
from msggan_jax.checkpoints import trained
from msggan_jax.metrics import distances
from msggan_jax.metrics.extractors import EFFICIENTNET
from msggan_jax.metrics.frozen_network import on_local_devices
from msggan_jax.models.pyramid import quantize, to_uint8
from msggan_jax.planning import flops
from msggan_jax.runtime import sharding

CONFIGS = Path(__file__).parents[1] / "configs"
FEATURES = 2048  # Inception's
FAKES = 50_000
INCEPTION_FLOPS = 11.4e9  # a 299x299 image, as `flops.model_flops` counts
# Passes of a true float32 product on TPUs, relative to bfloat16.
FLOAT32_PASSES = 6
RUNS = (
  ("cifar10", "msg_progan"),
  ("image_folder", "msg_progan"),
  ("oxford_flowers", "msg_progan"),
  ("oxford_flowers", "msg_stylegan"),
  ("indian_celebs", "msg_progan"),
  ("lsun_church", "msg_stylegan"),
  ("celebahq", "msg_stylegan"),
  ("ffhq", "msg_progan"),
  ("ffhq", "msg_stylegan"),
)


def load_config(name: str, preset: str):
  """Return the configuration of a file in configs/."""
  path = CONFIGS / f"{name}.py"
  return runpy.run_path(str(path))["get_config"](preset)


def time_part(name: str, unit: str, count: float, part: Callable) -> None:
  """Print the wall and CPU milliseconds of a part, the second call's."""
  jax.block_until_ready(part())
  wall, cpu = time.monotonic(), time.process_time()
  jax.block_until_ready(part())
  wall, cpu = time.monotonic() - wall, time.process_time() - cpu
  cells = (
    name,
    f"{1000 * wall / count:.2f}",
    f"{1000 * cpu / count:.2f}",
    unit,
  )
  print(f"| {' | '.join(cells)} |", flush=True)


def measure(resolution: int, batch: int, features: int) -> None:
  """Print the table of parts."""
  config = load_config("ffhq", "msg_progan")
  config.resolution = resolution
  config.base_channels = 4096
  config.max_channels = 64
  run = program.make_program(config, sharding.make_mesh())
  params, state = run.generator.init(jax.random.key(0))
  generator = trained.Generator(config, run.generator, params, state)
  mesh_batch = batch * jax.local_device_count()
  z = on_local_devices(
    np.asarray(generator.sample_latents(jax.random.key(1), mesh_batch))
  )
  extractor = metrics.Extractors()[EFFICIENTNET]
  images = jax.block_until_ready(generator(z)[-1])
  on_devices = jax.block_until_ready(quantize(images))
  random = np.random.RandomState(0)
  a, b = (random.rand(features, FEATURES).astype(np.float32) for _ in range(2))
  moments, reals = distances.Moments(a), distances.Moments(b)
  assert reals.root.shape == (FEATURES, FEATURES)
  image = (f"image {resolution}²", mesh_batch)
  print("| part | wall, ms | CPU, ms | of |\n|---|---|---|---|")
  for name, (unit, count), part in (
    ("generate", image, lambda: generator(z)),
    ("convert on the devices", image, lambda: quantize(images)),
    (
      "convert in NumPy, upload again",
      image,
      lambda: on_local_devices(to_uint8(jax.device_get(images) + 0.0)),
    ),
    (
      "extract, EfficientNet-Lite0",
      image,
      lambda: extractor.features(on_devices),
    ),
    (
      "moments",
      ("feature", features),
      lambda: distances.Moments(a).covariance,
    ),
    (
      "FID: root of the reals",
      ("set", 1),
      lambda: distances.Moments(**moments.arrays()).root,
    ),
    (
      "FID: the rest",
      ("set", 1),
      lambda: distances.frechet_distance(reals, moments),
    ),
    (
      "KID: kernel in NumPy",
      ("1000 x 1000 pairs", (features / 1000) ** 2),
      lambda: distances._mean_kernel(a, b),
    ),
  ):
    time_part(name, unit, count, part)


def estimate_share() -> None:
  """Print the estimated share of evaluation, by configuration."""
  print(
    "| configuration | `eval_kimg` | generate | extract, bfloat16 | extract, "
    "float32 |\n|---|---|---|---|---|"
  )
  for name, preset in RUNS:
    config = load_config(name, preset)
    run = program.make_program(config, sharding.make_mesh(jax.devices()[:1]))
    step = flops.model_flops(run.step, run.abstract_state, run.abstract_batch)
    latent = jax.ShapeDtypeStruct((1, config.latent_size), np.float32)
    forward = flops.model_flops(
      run.generator.apply,
      *run.generator.shapes,
      latent,
    )
    training = step / config.batch_size * 1000 * config.eval_kimg
    shares = [
      FAKES * part / training
      for part in (forward, INCEPTION_FLOPS, FLOAT32_PASSES * INCEPTION_FLOPS)
    ]
    print(
      f"| {name}, {preset} | {config.eval_kimg:g} | "
      + " | ".join(f"{share:.2%}" for share in shares)
      + " |",
      flush=True,
    )


def main() -> None:
  """Print one of the tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--share", action="store_true", help="estimate shares")
  parser.add_argument("--resolution", type=int, default=256)
  parser.add_argument("--batch", type=int, default=4, help="a device")
  parser.add_argument("--features", type=int, default=3000)
  args = parser.parse_args()
  if args.share:
    estimate_share()
  else:
    measure(args.resolution, args.batch, args.features)


if __name__ == "__main__":
  main()
