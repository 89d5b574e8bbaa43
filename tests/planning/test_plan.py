"""Plans: the compiler's figures, searches, unknown slices."""

import dataclasses
import json
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from msggan_jax.algorithm import program
from msggan_jax.planning import (
  compilation,
  dry_run,
  estimate,
  flops,
  gpus,
  timing,
  tpu_slices,
)
from msggan_jax.runtime import sharding
from tests.algorithm.test_variants import small_config

HLO = """
  %a = f32[10,3]{1,0} all-reduce(f32[10,3] %x), replica_groups={{0,1}}
  %b = (f32[2]{0}, bf16[4]{0}) all-reduce-start(f32[2] %y, bf16[4] %z)
  %c = (f32[2]{0}, bf16[4]{0}) all-reduce-done(%b)
  %d = (f32[4]{0}, f32[32]{0}) all-gather-start(f32[4] %y), dimensions={0}
  %e = f32[] add(f32[] %all-reduce, f32[] %q)
"""


@pytest.fixture
def chip(monkeypatch):
  monkeypatch.setattr(timing, "_MATRIX", 64)
  return estimate.this_machine()[1]


def test_collectives_of_a_module():
  assert compilation.collective_bytes(HLO) == {
    "all-reduce": 120 + 8 + 8,
    "all-gather": 128,
  }


@pytest.mark.parametrize(
  ("message", "needed"),
  [
    ("RESOURCE_EXHAUSTED: ... Used 16.50G of 15.75G hbm.", int(16.5 * 2**30)),
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
      "for HLO temporaries (32.15G) exceeds available HBM (15.75G).",
      round(32.15 * 2**30),
    ),
    ("RESOURCE_EXHAUSTED: something else", 0),
    ("INTERNAL: Used 16G of 15G", None),
  ],
)
def test_what_a_failure_to_compile_says(message, needed):
  assert compilation.parse_exhausted(message) == needed


@pytest.mark.parametrize(
  ("limit", "remat_from"), [(100, 0), (80, 16), (60, 8), (40, 4)]
)
def test_remat_auto_takes_the_first_that_fits(monkeypatch, limit, remat_from):
  needed = {0: 90, 16: 70, 8: 50, 4: 30}

  def compile_step(run):
    size = needed[run.config.remat_from]
    return types.SimpleNamespace(fits=True, memory_bytes=size)

  monkeypatch.setattr(compilation, "compile_step", compile_step)
  config = small_config(batch_size=32, resolution=16)
  config.remat_from = "auto"
  found = compilation.with_remat(config, jax.devices(), limit)
  assert found.remat_from == remat_from
  assert config.remat_from == "auto"
  with pytest.raises(ValueError, match="micro_batch_size"):
    compilation.with_remat(config, jax.devices(), 20)


def test_a_plan_for_these_devices(chip):
  config = small_config(batch_size=32)
  plan = estimate.make_plan(config, jax.devices(), chip)
  numbers = plan.numbers()
  assert numbers["devices"] == 8 and numbers["device_batch_size"] == 4
  assert numbers["fits"] and numbers["hbm_bytes"] > 0
  # Of uint8 pixels and int32 labels.
  r = config.resolution
  waiting = numbers["hbm_parts_bytes"]["waiting batches"]
  assert waiting == 4 * (r * r * 3 + 4)
  # Both gradients once, and scalars.
  state = program.make_program(config, sharding.make_mesh()).abstract_state
  params = jax.tree.leaves((state.g_params, state.d_params))
  gradients = sum(x.size for x in params)
  assert numbers["collectives"].keys() == {"all-reduce"}
  assert 0 <= numbers["collective_bytes"] - 4 * gradients < 4 * 64
  assert numbers["images_per_sec_estimate"] > 0
  assert len(estimate.describe(numbers, 1.0)) == 8

  tight = dataclasses.replace(chip, hbm_bytes=1)
  numbers = estimate.make_plan(config, jax.devices(), tight).numbers()
  assert not numbers["fits"] and numbers["images_per_sec_estimate"] == 0
  assert "DOES NOT FIT" in "\n".join(estimate.describe(numbers, 1.0))


@pytest.mark.parametrize("largest", [0, 1, 2, 7, 40])
def test_the_search_finds_the_largest_batch(largest):
  """Memory 100 + 10 a unit, with a bend, and not a compilation too many."""
  tried = []

  def plan_for(batch):
    tried.append(batch)
    units = batch // 4
    size = 100 + 10 * units + (5 if units > 3 else 0)
    made = types.SimpleNamespace(fits=units <= largest, memory_bytes=size)
    return types.SimpleNamespace(compilation=made, device_batch_size=batch)

  capacity = 100 + 10 * largest + (5 if largest > 3 else 0)
  plan, known = estimate.find_batch(plan_for, 4, capacity)
  assert known
  assert (plan.device_batch_size if plan else 0) == 4 * largest
  assert len(tried) == len(set(tried)) <= 5


def test_a_dry_run_tells_and_writes_nothing(tmp_path, monkeypatch, chip):
  monkeypatch.chdir(tmp_path)
  config = small_config(batch_size=32)
  config.dataset.name = "cats"
  lines = dry_run.describe(config)
  assert json.loads(lines[0])["batch_size"] == 32
  assert [lines[1], lines[3]] == ["generator", "discriminator"]
  assert "block_4x4/conv/kernel" in lines[2] and "Total: " in lines[4]
  assert lines[-1].startswith("disk ")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["v5e", "v9:2x2", "v5e:4", "a100:8"])
def test_unknown_slices_are_refused(name):
  with pytest.raises(ValueError, match="there is no topology"):
    tpu_slices.describe(name)


def run_plan(*flags):
  command = [sys.executable, "-m", "msggan_jax.plan"]
  command += ["--config=configs/demo.py", "--config.resolution=8"]
  return subprocess.run([*command, *flags], capture_output=True, text=True)


def test_a_missing_compiler_is_one_sentence():
  if tpu_slices.has_compiler():
    pytest.skip("it is there")
  result = run_plan("--topology=v5e:2x2")
  assert result.returncode == 2
  assert result.stderr.startswith("error: compiling for TPUs needs libtpu")


@pytest.mark.parametrize("name", ["h100", "v100"])
def test_a_gpu_by_its_data_sheet(name):
  config = small_config(batch_size=4)
  numbers = gpus.estimate(config, name)
  run = program.make_program(config, sharding.make_mesh(jax.devices()[:1]))
  step = flops.model_flops(run.step, run.abstract_state, run.abstract_batch)
  assert numbers["model_flops_per_image"] == step / 4
  assert sum(level["flops"] for level in numbers["levels"]) == step
  assert [level["level"] for level in numbers["levels"]][-2:] == [4, 8]
  # float32: the products are those of no tensor core.
  gpu = gpus.GPUS[name]
  compute = numbers["step_secs_estimate"]["compute"]
  assert compute == pytest.approx(step / gpu.float32_flops_per_sec)
  assert "nothing was compiled" in "\n".join(gpus.describe(numbers))
  config.precision = "bfloat16"
  faster = gpus.estimate(config, name)["step_secs_estimate"]
  assert (faster["compute"] < compute) == (name != "v100")


def test_a_gpu_is_not_compiled_for():
  result = run_plan("--gpu=h100", "--topology=v5e:2x2")
  assert result.returncode == 2
  assert result.stderr.startswith("error: --gpu compiles nothing; give it")
  result = run_plan("--levels")
  assert result.returncode == 2
  assert result.stderr.startswith("error: --levels needs --topology or --gpu")


@pytest.mark.slow
def test_two_slices_compile_side_by_side():
  """And both show their levels, whose time is that of the step."""
  if not tpu_slices.has_compiler():
    pytest.skip("needs libtpu")
  with ThreadPoolExecutor(max_workers=2) as pool:
    flags = "--topology=v5e:2x2", "--device_batch_size=4", "--levels"
    results = list(pool.map(lambda _: run_plan(*flags), range(2)))
  for result in results:
    assert result.returncode == 0, result.stderr
    assert "of one image:" in result.stdout
    assert result.stdout.splitlines()[-1].split()[0] == "8x8"


@pytest.mark.slow
def test_slices_compile():
  if not tpu_slices.has_compiler():
    pytest.skip("needs libtpu")
  counts = []
  for slice_name in ("v5e:2x2", "v5e:4x4"):
    result = run_plan(
      f"--topology={slice_name}", "--device_batch_size=4", "--json"
    )
    assert result.returncode == 0, result.stderr
    numbers = json.loads(result.stdout)
    assert numbers["fits"] and numbers["device_kind"] == "TPU v5e"
    assert numbers["images_per_sec_by_instruction"] > 0
    levels = sum(level["secs"] for level in numbers["levels"])
    secs = numbers["step_secs_by_instruction"]
    assert secs["step"] == pytest.approx(levels + secs["collectives"])
    counts.append(numbers["flops_per_image"])
  assert counts[1] == pytest.approx(counts[0], rel=0.01)
  refused = run_plan("--topology=v5e:3x5")
  assert refused.returncode == 2
  assert "libtpu knows no topology 'v5e:3x5'" in refused.stderr
