"""Workdirs as a training writes them, without training."""

import json

import numpy as np
from PIL import Image

METRIC = "kid_efficientnet_lite0_200"
CONFIG = {
  "model": "progan",
  "resolution": 8,
  "batch_size": 8,
  "total_kimg": 4.0,
  "log_kimg": 0.1,
  "eval_kimg": 1.0,
  "learning_rate": 0.003,
  "penalty": "gradient_penalty",
  "metrics": METRIC,
  "dataset": {"name": "cats", "path": ""},
}


def stats_row(kimg, **others):
  return {
    "step": round(kimg * 125),
    "kimg": kimg,
    "d_loss": -4.0 - 1 / kimg,
    "g_loss": 5.0,
    "real_logits": 1.0 + 1 / kimg,
    "fake_logits": -2.0,
    "d_grad_norm": 1.5,
    "g_grad_norm": 2.5,
    "gradient_penalty/4": 0.1 / kimg,
    "gradient_penalty/8": 0.2,
    "stability/4": 0.1 / kimg,
    "stability/8": 0.3 / kimg,
    "diversity": 0.95,
    "images_per_sec": 50.0,
    "memory_bytes": 2**30,
    "secs/step": 10 * kimg,
    "secs/data": 1.0,
    "unix_secs": 1.8e9 + 20 * kimg,
    **others,
  }


def metrics_row(kimg, value, name=METRIC):
  return {
    "step": round(kimg * 125),
    "kimg": kimg,
    name: value,
    f"{name}_floor": value / 2,
    "agreement": 0.75,
    "agreement/4": 0.75,
    "agreement_rmse/4": 0.125,
    "data_hash": "d1",
    "weights_hash": {"efficientnet_lite0": "w1"},
    "protocols": {name: "200 fakes against as many reals"},
    "secs": 2.0,
  }


def rows():
  """Return rows of stats.jsonl, up to 4 kimg."""
  return [stats_row((i + 1) / 10) for i in range(40)]


def noise_grid(seed, side=8):
  size = (4 * side, 4 * side, 3)
  return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def write_lines(path, objects):
  path.write_text("".join(json.dumps(each) + "\n" for each in objects))


def write_run(workdir, *, config=(), stats=None, metrics=None, grids=3):
  """Write a run's folder and return it."""
  workdir.mkdir(parents=True)
  (workdir / "config.json").write_text(json.dumps({**CONFIG, **dict(config)}))
  write_lines(workdir / "stats.jsonl", rows() if stats is None else stats)
  if metrics is None:
    metrics = [metrics_row(k, 1 / k) for k in (1.0, 2.0, 3.0, 4.0)]
  write_lines(workdir / "metrics.jsonl", metrics)
  Image.fromarray(noise_grid(99)).save(workdir / "reals.png")
  (workdir / METRIC).mkdir()
  for step in (125, 500):
    Image.fromarray(noise_grid(step)).save(workdir / METRIC / f"{step}.png")
  for side, folder in ((4, "4x4"), (8, "8x8"), (8, "scales")):
    (workdir / "samples" / folder).mkdir(parents=True)
    for i in range(grids):
      kimg = 4 * i / max(1, grids - 1)
      path = workdir / "samples" / folder / f"{kimg:010.3f}.png"
      Image.fromarray(noise_grid(i, side)).save(path)
  return workdir
