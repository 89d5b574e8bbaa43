"""Generators as ONNX, in the environment that `make onnx` makes."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from msggan_jax.checkpoints import safetensors_file
from msggan_jax.sharing import portable
from tests.sharing.test_stablehlo import make_generator

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-onnx" / "bin" / "python"

# Draws the images without msggan_jax and without JAX.
SCRIPT = """
import sys
sys.modules["msggan_jax"] = sys.modules["jax"] = None
import numpy as np, onnxruntime
given = dict(np.load(sys.argv[2]))
session = onnxruntime.InferenceSession(sys.argv[1])
names = [each.name for each in session.get_inputs()]
outputs = [each.name for each in session.get_outputs()]
assert outputs == ["image_4x4", "image_16x16"], outputs
for batch in (1, 3):
  feed = {name: given[name] for name in names}
  feed = {n: x[:batch] if x.ndim else x for n, x in feed.items()}
  for name, images in zip(outputs, session.run(outputs, feed)):
    assert np.abs(images - given[name][:batch]).max() < 1e-4, (name, batch)
print(names)
"""


def write_shared(generator, path):
  trees = {safetensors_file.GENERATOR: (generator.params, generator.state)}
  safetensors_file.write(path, generator.config, 1, trees)
  return path


def run(*command):
  return subprocess.run(
    [*map(str, command)], capture_output=True, text=True, check=False
  )


def test_without_jax2onnx_one_sentence_names_the_command(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  source = write_shared(make_generator("progan"), tmp_path / "a.safetensors")
  with pytest.raises(FileNotFoundError, match="make onnx, then .venv-onnx"):
    portable.write(source, tmp_path / "a.onnx", "onnx")
  assert not (tmp_path / "a.onnx").exists()


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="make onnx")
@pytest.mark.parametrize(
  ("model", "variant"),
  [
    ("progan", ""),
    ("residual", ""),
    ("stylegan", "psi"),
    ("stylegan", "w,noise"),
  ],
)
def test_a_process_without_the_package_draws_the_images(
  model, variant, tmp_path
):
  classes = 0 if "w" in variant else 3
  generator = make_generator(model, num_classes=classes)
  source = write_shared(generator, tmp_path / "a.safetensors")
  output = tmp_path / "a.onnx"
  flags = [f"--workdir={source}", "--format=onnx", f"--output={output}"]
  flags.append(f"--variant={variant}")
  done = run(PYTHON, "-m", "msggan_jax.export", *flags)
  assert done.returncode == 0, done.stderr
  function = portable.whole(generator, variant.split(",") if variant else ())
  random = np.random.default_rng(0)
  given = {"labels": np.array([2, 0, 1], np.int32), "psi": np.float32(0.5)}
  for each in function.inputs:
    if each.name not in given:
      values = random.normal(size=(3, *each.shape))
      given[each.name] = values.astype(np.float32)
  arrays = [given[each.name] for each in function.inputs]
  images = jax.jit(function.call)(*arrays)
  given |= dict(zip(function.outputs, images, strict=True))
  np.savez(tmp_path / "given.npz", **given)
  done = run(PYTHON, "-c", SCRIPT, output, tmp_path / "given.npz")
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str([each.name for each in function.inputs])
