"""Strict JAX on eight CPU devices, before anything uses it."""

import os
import runpy
from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tests compile much and compute little: a third of the time.
jax.config.update("jax_disable_most_optimizations", True)
# Many compile the same: a run and its resumption, a test and its next time.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # for commands
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(name, *argument):
  """Return the configuration of a file in configs/."""
  return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](*argument)


@pytest.fixture
def tiny_config():
  """A configuration of every feature at a size that compiles in seconds."""
  config = load_config("default")
  config.resolution = 16
  config.latent_size = 8
  config.base_channels = 128
  config.max_channels = 8
  config.batch_size = 32
  config.stddev_group = 4
  config.dataset.name = "cats"
  config.eval_kimg = 0.0
  return config


@pytest.fixture
def float64():
  """Compute in float64 for the time of a test."""
  jax.config.update("jax_enable_x64", True)
  yield
  jax.config.update("jax_enable_x64", False)
