"""Plans: the compiler's figures, levels, searches, unknown slices."""

import json
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest
from ml_collections import ConfigDict

from msggan_jax.algorithm import program
from msggan_jax.planning import description, devices, estimate, timing
from msggan_jax.planning.flops import Count
from msggan_jax.planning.instructions import Work
from msggan_jax.runtime import sharding
from tests.algorithm.runs import small_config

CONFIG = small_config(batch_size=32)


@pytest.fixture(scope="module")
def compilation():
  return estimate.compile_step(
    program.make_program(CONFIG, sharding.make_mesh())
  )


@pytest.fixture
def chip(monkeypatch, compilation):
  """This machine's figures; its one step is compiled once."""
  monkeypatch.setattr(estimate, "compile_step", lambda _: compilation)
  monkeypatch.setattr(timing, "_MATRIX", 64)
  return estimate.this_machine()[1]


def test_memory_in_a_compiler_s_error():
  for message, needed in (
    ("RESOURCE_EXHAUSTED: ... Used 16.50G of 15.75G hbm.", 16.5),
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
      "for HLO temporaries (32.15G) exceeds available HBM (15.75G).",
      32.15,
    ),
    ("RESOURCE_EXHAUSTED: something else", 0),
  ):
    assert estimate.parse_exhausted(message) == round(needed * 2**30)
  assert estimate.parse_exhausted("INTERNAL: Used 16G of 15G") is None


def test_a_step_that_the_compiler_refuses_has_a_plan(chip, monkeypatch):
  refused = estimate.Compilation(False, 1.0, 2**34, {}, 0.0, 0.0, "")
  monkeypatch.setattr(estimate, "compile_step", lambda _: refused)
  numbers = estimate.make_plan(CONFIG, jax.devices(), chip)
  assert not numbers["fits"]
  assert "DOES NOT FIT" in "\n".join(description.describe(numbers))


def test_a_plan_for_these_devices(chip):
  numbers = estimate.make_plan(CONFIG, jax.devices(), chip)
  assert numbers["devices"] == 8 and numbers["device_batch_size"] == 4
  assert numbers["fits"] and numbers["hbm_bytes"] > 0
  # Of uint8 pixels and int32 labels.
  r = CONFIG.resolution
  waiting = numbers["hbm_parts_bytes"]["waiting batches"]
  assert waiting == 4 * (r * r * 3 + 4)
  values = ConfigDict(CONFIG)
  values.dataset.range = "0:1"  # a set of values may be float32
  run = program.make_program(values, sharding.make_mesh())
  assert run.abstract_batch["image"].dtype == "float32"
  # Both gradients once, and scalars.
  state = program.make_program(CONFIG, sharding.make_mesh()).abstract_state
  params = jax.tree.leaves((state.g_params, state.d_params))
  gradients = sum(x.size for x in params)
  assert numbers["collectives"].keys() == {"all-reduce"}
  assert 0 <= numbers["collective_bytes"] - 4 * gradients < 4 * 64
  # Half of the measured peak of all devices.
  flops_per_sec = (
    numbers["images_per_sec_estimate"] * numbers["model_flops_per_image"]
  )
  assert flops_per_sec == pytest.approx(0.5 * 8 * chip.flops_per_sec)
  assert len(description.describe(numbers)) == 8
  tight = devices.Chip("tight", 1, 1.0)
  numbers = estimate.make_plan(CONFIG, jax.devices(), tight)
  assert not numbers["fits"] and numbers["images_per_sec_estimate"] == 0
  assert "DOES NOT FIT" in "\n".join(description.describe(numbers))


def test_a_plan_of_a_run_that_grows(chip):
  """Each stage has its batch, memory and speed; the time is their sum."""
  config = small_config("progan", batch_size=32, total_kimg=100.0)
  config.optimizer = "rmsprop"  # Adam mixes types
  config.grow_batch_sizes = "8:64"
  config.grow_stable_kimg = config.grow_fade_kimg = 10.0
  numbers = estimate.make_plan(config, jax.devices(), chip)
  stages = numbers["stages"]
  found = [(s["resolution"], s["batch_size"], s["kimg"]) for s in stages]
  assert found == [(4, 32, 9.984), (8, 64, 89.984)]
  speeds = [s["images_per_sec_estimate"] for s in stages]
  assert speeds[0] > 2 * speeds[1] == 2 * numbers["images_per_sec_estimate"]
  days = sum(1000 * s["kimg"] / s["images_per_sec_estimate"] for s in stages)
  assert numbers["days_estimate"] == pytest.approx(days / 86400)
  lines = description.describe(numbers)
  assert [line.split()[1] for line in lines if line.startswith("stage")] == [
    "4",
    "8",
  ]


def test_every_stage_must_fit(monkeypatch):
  """Also a lower one with a larger batch."""

  def compile_step(run):
    size = run.stage.batch_size
    return types.SimpleNamespace(fits=True, memory_bytes=size)

  monkeypatch.setattr(estimate, "compile_step", compile_step)
  config = small_config("progan", grow_batch_sizes="4:64,8:32")
  assert estimate.fits(config, limit_bytes=64)
  assert not estimate.fits(config, limit_bytes=63)


def test_levels_and_step_of_a_chip():
  """On two chips; each instruction, and each floor, by the slower part."""
  chip = devices.Chip("chip", 0, 100.0, 10.0, 5.0, 2, 4)
  works = [
    Work(level, moved, count, "convolution", 1, "")
    for level, moved, count in ((64, 30, 100), (None, 10, 0), (64, 10, 300))
  ]
  products = {
    (64, 2, "highest"): Count(200, 40),  # bfloat16 takes one pass
    (64, 4, "default"): Count(200, 20),
    (32, 4, "highest"): Count(25, 10),
  }
  other, floor, level = levels = estimate.level_costs(works, products, chip, 2)
  assert (other["level"], other["secs"], other["floor_secs"]) == (None, 1.0, 0)
  assert (level["bytes_moved"], level["flops"]) == (40, 400)
  assert (level["memory_secs"], level["compute_secs"]) == (4.0, 4.0)
  assert level["secs"] == 3.0 + 3.0
  assert level["floor_secs"] == 2.0 + 2.0 and floor["floor_secs"] == 0.5
  secs = estimate.step_secs(levels, 600, {"all-reduce": 15}, chip, 2)
  expected = {"compute": 4.0, "memory": 5.0, "collectives": 3.0}
  assert secs == expected | {"step": 7.0 + 3.0}
  lines = description.level_table({"levels": levels, "device_batch_size": 2})
  millis = "2000.000 2000.000 3000.000 2000.000"
  assert lines[-1].split() == ["64x64", "0.000", "0.0", *millis.split()]


@pytest.mark.parametrize("largest", [0, 1, 2, 7, 40])
def test_the_search_finds_the_largest_batch(largest):
  """Memory 100 + 10 a unit, with a bend, and not a compilation too many."""
  tried = []

  def plan_for(batch):
    tried.append(batch)
    units = batch // 4
    size = 100 + 10 * units + (5 if units > 3 else 0)
    fits = units <= largest
    return {"fits": fits, "hbm_bytes": size, "device_batch_size": batch}

  capacity = 100 + 10 * largest + (5 if largest > 3 else 0)
  plan, known = estimate.find_batch(plan_for, 4, capacity)
  assert known
  assert (plan["device_batch_size"] if plan else 0) == 4 * largest
  assert len(tried) == len(set(tried)) <= 5


def test_a_dry_run_tells_and_writes_nothing(tmp_path, monkeypatch, chip):
  monkeypatch.chdir(tmp_path)
  lines = description.dry_run(CONFIG)
  assert json.loads(lines[0])["batch_size"] == 32
  assert [lines[1], lines[3]] == ["generator", "discriminator"]
  assert "block_4x4/conv/kernel" in lines[2] and "Total: " in lines[4]
  assert lines[-1].startswith("disk ")
  assert not list(tmp_path.iterdir())


def test_unknown_devices_are_refused():
  for name in ("v5e", "v9:2x2", "v5e:4", "h300:8", "h100:0", "h100:2x2"):
    with pytest.raises(ValueError, match="there is no topology"):
      devices.describe(name)


def test_without_a_compiler_devices_are_refused(monkeypatch):
  monkeypatch.setattr(devices, "has_tpu_compiler", lambda: False)
  with pytest.raises(ValueError, match="compiling for TPUs needs libtpu"):
    devices.describe("v5e:2x2")
  monkeypatch.setattr(devices, "has_gpu_compiler", lambda: False)
  with pytest.raises(ValueError, match="pip install 'msggan-jax.plan-gpu.'"):
    devices.describe("h100:8")


def test_figures_of_gpus():
  """The peaks of NVIDIA's data sheets, in TFLOP/s, from XLA's figures."""
  for name, bfloat16, float32 in (("a100", 312, 19.5), ("h100", 989, 66.9)):
    chip = devices.gpu_chip(name)
    assert chip.flops_per_sec == pytest.approx(1e12 * bfloat16, rel=0.005)
    true_float32 = chip.flops_per_sec / chip.passes(4, "highest")
    assert true_float32 == pytest.approx(1e12 * float32, rel=0.005)
    assert chip.passes(4, "default") == 2 and chip.passes(2, "highest") == 1


def run_plan(*flags):
  command = [sys.executable, "-m", "msggan_jax.plan"]
  command += ["--config=configs/demo.py", "--config.resolution=8"]
  return subprocess.run([*command, *flags], capture_output=True, text=True)


@pytest.mark.slow
def test_slices_compile_side_by_side():
  """The same work on a chip; levels add up to the step."""
  if not devices.has_tpu_compiler():
    pytest.skip("needs libtpu")
  fields = "--device_batch_size=4", "--levels", "--json"
  with ThreadPoolExecutor(max_workers=2) as pool:
    slices = "--topology=v5e:2x2", "--topology=v5e:4x4"
    results = list(pool.map(lambda name: run_plan(name, *fields), slices))
  counts = []
  for result in results:
    assert result.returncode == 0, result.stderr
    numbers = json.loads(result.stdout)
    assert numbers["fits"] and numbers["device_kind"] == "TPU v5e"
    assert numbers["images_per_sec_estimate"] > 0
    assert [level["level"] for level in numbers["levels"]] == [None, 4, 8]
    levels = sum(level["secs"] for level in numbers["levels"])
    secs = numbers["step_secs_estimate"]
    assert secs["step"] == pytest.approx(levels + secs["collectives"])
    assert 0 < numbers["floor_secs"] < levels
    counts.append(numbers["flops_per_image"])
  assert counts[1] == pytest.approx(counts[0], rel=0.01)
  refused = run_plan("--topology=v5e:3x5")
  assert refused.returncode == 2
  assert "libtpu refuses topology 'v5e:3x5'" in refused.stderr


@pytest.mark.slow
def test_a_plan_for_gpus():
  if not devices.has_gpu_compiler():
    pytest.skip("needs the extra plan-gpu")
  fields = "--config.precision=bfloat16", "--device_batch_size=4", "--json"
  result = run_plan("--gpu=h100:2", *fields)
  assert result.returncode == 0, result.stderr
  numbers = json.loads(result.stdout)
  assert numbers["fits"] and numbers["compiled"] and numbers["devices"] == 2
  assert numbers["kernels"] > 100
  assert numbers["bytes_per_image"] > numbers["floor_bytes_per_image"] > 0
  assert numbers["convolutions"].keys() == {"bfloat16", "true float32"}
  assert numbers["collectives"].keys() == {"all-reduce"}
  parts = numbers["hbm_parts_bytes"]
  assert parts["cuDNN's workspace, at most"] == devices.CUDNN_WORKSPACE
