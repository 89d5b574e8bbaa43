"""Measure one point of a growth curve in this process; growth.py runs it.

python benchmarks/growth_points.py records 1000 runs/growth
"""

import json
import runpy
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
SIDE = 8  # of the records' images in pixels
BATCHES = 300  # of 32 records


def records(count: int, folder: Path) -> dict[str, float]:
  """Open a prepared set and read batches; prepare it in another process."""
  from msggan_jax import data
  from msggan_jax.runtime import machine

  began = time.monotonic()
  prepared = data.open_prepared(folder / f"records-{count}")
  loader = data.make_loader(prepared, batch_size=32, seed=0)
  next(loader)
  first = time.monotonic() - began
  began = time.monotonic()
  for _ in range(BATCHES):
    next(loader)
  return {
    "secs_to_first_batch": first,
    "secs_an_image": (time.monotonic() - began) / BATCHES / 32,
    "peak_memory_bytes": machine.peak_bytes(),
  }


def preparing(count: int, folder: Path) -> dict[str, float]:
  """Prepare a set of random smooth images."""
  from msggan_jax import data
  from msggan_jax.data import partial_set, set_writer
  from msggan_jax.data.sources import Source
  from msggan_jax.runtime import machine

  def load(index):
    random = np.random.default_rng(index)
    rough = random.integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(rough).resize((SIDE, SIDE))
    return image, 0

  target = folder / f"records-{count}"
  names = [f"image {index}" for index in range(count)]
  wanted = data.Metadata(f"{count} random images", "", "center", SIDE, 3)
  # A stopped measurement leaves finished pieces, which would not be timed.
  for left in (target, folder / f".{target.name}.partial"):
    shutil.rmtree(left, ignore_errors=True)
  source = Source(names, load)
  began = time.monotonic()
  with partial_set.open_partial(target) as work:
    work.begin(wanted.settings)
    set_writer.write_set(source, work, wanted, strict=True)
    work.move_to(target)
  return {
    "secs_an_image": (time.monotonic() - began) / count,
    "peak_memory_bytes": machine.peak_bytes(),
  }


def snapshots(count: int, folder: Path) -> dict[str, float]:
  """Save `count` checkpoints of the demo's state, then time one more."""
  import jax

  from msggan_jax.algorithm import program
  from msggan_jax.checkpoints.checkpoint import Checkpoints
  from msggan_jax.runtime import sharding

  config = runpy.run_path(str(ROOT / "configs/demo.py"))["get_config"]()
  run = program.make_program(config, sharding.make_mesh())
  state = run.create_state()
  path = folder / f"snapshots-{count}/checkpoints"
  shutil.rmtree(path, ignore_errors=True)  # existing steps are not saved again
  with Checkpoints(path, keep=count) as checkpoints:
    for step in range(1, count + 1):
      checkpoints.save(step, state)
    checkpoints.wait()
    began = time.monotonic()
    checkpoints.save(count + 1, state)
    checkpoints.wait()
    saving = time.monotonic() - began
  began = time.monotonic()
  with Checkpoints(path, keep=count) as checkpoints:
    jax.block_until_ready(checkpoints.restore(run.abstract_state))
  loading = time.monotonic() - began
  sizes = (file.stat().st_size for file in path.rglob("*") if file.is_file())
  return {
    "save_secs": saving,
    "load_secs": loading,
    "bytes_kept": sum(sizes),
  }


def duplicates(count: int, folder: Path) -> dict[str, float]:
  """Find the near-duplicates among images of several kinds."""
  from msggan_jax.data import duplicates, prepared_set
  from msggan_jax.runtime import machine

  del folder
  random, shape = np.random.default_rng(0), (count, 16, 16, 1)
  strokes = random.integers(0, 2, (count, 4, 4, 1), np.uint8) * 255
  strokes = strokes.repeat(2, axis=1).repeat(2, axis=2)
  kinds = {
    "photos": random.integers(0, 256, (count, 4, 4, 1), np.uint8)
    .repeat(4, axis=1)
    .repeat(4, axis=2),
    "white": random.integers(250, 256, shape, np.uint8),
    "black": random.integers(0, 6, shape, np.uint8),
    "equal": np.full(shape, 7, np.uint8),
    "digits": np.pad(strokes, ((0, 0), (4, 4), (4, 4), (0, 0))),
  }
  secs = {}
  for kind, images in kinds.items():
    thumbnails = [duplicates.thumbnail(image) for image in images]
    digests = [prepared_set.digest_of(image, 0).hex() for image in images]
    began = time.monotonic()
    duplicates.find_groups(thumbnails, digests, images.__getitem__)
    secs[f"secs_{kind}"] = (time.monotonic() - began) / count
  return secs | {"peak_memory_bytes": machine.peak_bytes()}


POINTS = {
  "records": records,
  "preparing": preparing,
  "duplicates": duplicates,
  "snapshots": snapshots,
}


def main() -> None:
  """Print the point's numbers as JSON."""
  name, count, folder = sys.argv[1:]
  Path(folder).mkdir(parents=True, exist_ok=True)
  print(json.dumps(POINTS[name](int(count), Path(folder))))


if __name__ == "__main__":
  main()
