"""Strict JAX on eight CPU devices, before anything uses it.

`benchmarks/gpu.py` sets MSGGAN_TEST_PLATFORM to test a GPU.
"""

import os
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests import weight_files

PLATFORM = os.environ.get("MSGGAN_TEST_PLATFORM", "cpu")
jax.config.update("jax_platforms", PLATFORM)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tests compile much and compute little: a third of the time.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"  # for commands
# XLA's older loops compile in half the time; read at the first compilation.
if jax.__version_info__ < (0, 11):  # later versions refuse the flag
  os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
# Many compile the same: a run and its resumption, a test and its next time.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(name, *argument):
  """Return the configuration of a file in configs/."""
  return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](*argument)


def contents(folder):
  """Return the bytes of all files in a folder by their relative paths."""
  files = (path for path in folder.rglob("*") if path.is_file())
  return {str(x.relative_to(folder)): x.read_bytes() for x in files}


def write_noise(folder, sizes, seed=0):
  """Write a folder of noise images, each (height, width); return it."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(seed)
  for i, size in enumerate(sizes):
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.png")
  return folder


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
  """A folder of 128 noise images of 16x16; sets prepared of it are shared."""
  folder = tmp_path_factory.mktemp("noise") / "photos"
  return write_noise(folder, [(16, 16)] * 128)


@pytest.fixture
def tiny_config(noise):
  """A configuration of every feature at a size that compiles in seconds."""
  config = load_config("default")
  config.resolution = 16
  config.latent_size = 8
  config.base_channels = 128
  config.max_channels = 8
  config.batch_size = 32
  config.stddev_group = 4
  config.dataset.name = "folder"
  config.dataset.path = str(noise)
  config.dataset.data_dir = str(noise.with_name("data"))
  config.eval_kimg = 0.0
  return config


@pytest.fixture
def quick_config(tiny_config):
  """Four steps at 4x4 that write nothing but the last checkpoint."""
  tiny_config.resolution, tiny_config.total_kimg = 4, 0.128
  tiny_config.penalty = "none"  # halves the compilation
  tiny_config.log_kimg = tiny_config.sample_kimg = 0.0
  tiny_config.snapshot_kimg = 0.0
  return tiny_config


@pytest.fixture
def stand_ins(monkeypatch):
  """Modules with whose names pickles of the authors' frameworks are written."""
  weight_files.install_stand_ins(monkeypatch)


@pytest.fixture
def standard_promotion():
  """Promote types as users do, in all threads: optax's Adam mixes them."""
  jax.config.update("jax_numpy_dtype_promotion", "standard")
  yield
  jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def float64():
  """Compute in float64 for the time of a test."""
  jax.config.update("jax_enable_x64", True)
  yield
  jax.config.update("jax_enable_x64", False)
