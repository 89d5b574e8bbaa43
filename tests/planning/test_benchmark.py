"""The benchmark: its numbers agree with each other."""

import json
import subprocess
import sys

import pytest

from msggan_jax.planning import timing

KEYS = {
  "images_per_sec",
  "step_secs",
  "step_flops",
  "compile_secs",
  "peak_memory_bytes",
  "matmul_flops_per_sec",
}


def test_numbers_of_a_step(tiny_config, monkeypatch):
  monkeypatch.setattr(timing, "_MATRIX", 64)  # it is measured 8 times
  tiny_config.resolution = 8
  numbers = timing.measure_step(tiny_config, steps=3)
  assert KEYS <= set(numbers)
  assert all(numbers[key] > 0 for key in KEYS)
  assert numbers["devices"] == 8
  assert numbers["images_per_sec"] == 32 / numbers["step_secs"]
  low, high = numbers["step_secs_quartiles"]
  assert low <= numbers["step_secs"] <= high
  assert len(timing.describe(numbers)) == 9


@pytest.mark.slow
def test_the_command_with_the_loader(tmp_path):
  command = [sys.executable, "-m", "msggan_jax.benchmark", "--steps=2"]
  fields = ["resolution=8", "max_channels=4", "latent_size=4"]
  fields.append(f"dataset.data_dir={tmp_path / 'data'}")
  subprocess.run(
    [
      *command,
      "--config=configs/demo.py",
      *(f"--config.{field}" for field in fields),
      *("--loader", f"--json={tmp_path / 'speed.json'}"),
    ],
    check=True,
  )
  numbers = json.loads((tmp_path / "speed.json").read_text())
  assert KEYS <= set(numbers)
  assert numbers["loader_images_per_sec"] > 0


def test_bad_input_is_one_sentence():
  result = subprocess.run(
    [
      sys.executable,
      "-m",
      "msggan_jax.benchmark",
      "--config=configs/demo.py",
      "--config.batch_size=3",
    ],
    capture_output=True,
    text=True,
  )
  assert result.returncode == 2
  assert result.stderr.startswith("error: config.batch_size is 3;")
  assert result.stderr.count("\n") == 1
