"""Generators as StableHLO and ONNX: any batch, every input, no package."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

from msggan_jax.checkpoints import safetensors_file, trained
from msggan_jax.models import networks
from msggan_jax.sharing import portable
from tests.algorithm.runs import random_arrays, small_config

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-onnx" / "bin" / "python"  # `make onnx` makes it

# Draw the images without msggan_jax, of which any import fails.
STABLEHLO = """
import sys
sys.modules["msggan_jax"] = None
import jax.export, numpy as np
given = np.load(sys.argv[2])
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
for batch in (1, 3):
  made = exported.call(given["z"][:batch], given["psi"])
  for name, images in made.items():
    assert np.abs(images - given[name][:batch]).max() < 1e-4, (name, batch)
print(exported.platforms)
"""
ONNX = """
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
print(session.get_modelmeta().custom_metadata_map["range"])
"""


@functools.cache
def make_generator(model, **fields):
  """Return a random generator up to 16x16 whose 8x8 images are missing."""
  fields = {"resolution": 16, "connected_scales": (4, 16), **fields}
  config = small_config(f"msg_{model}", **fields)
  network = networks.make_generator(config)
  return trained.Generator(config, network, *random_arrays(network))


def write_shared(generator, path, card=None):
  trees = {safetensors_file.GENERATOR: (generator.params, generator.state)}
  safetensors_file.write(path, generator.config, 1, trees, card or {})
  return path


def run(*command):
  return subprocess.run(
    [*map(str, command)], capture_output=True, text=True, check=False
  )


def check(images, pyramid):
  assert list(images) == ["image_16x16", "image_4x4"]
  for scale in pyramid:
    name = portable.image_name(scale.shape[1])
    np.testing.assert_allclose(images[name], scale, atol=1e-4)


def exported(generator, variant=()):
  content = portable.to_stablehlo(portable.whole(generator, variant))
  return jax.export.deserialize(bytearray(content))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["progan", "stylegan", "residual"])
def test_images_are_the_same_at_any_batch_size(model):
  generator = make_generator(model, num_classes=3, channels=1)
  function = exported(generator)
  assert function.platforms == portable.PLATFORMS
  for batch in (1, 3):
    z = generator.sample_latents(jax.random.key(batch), batch)
    labels = np.arange(batch, dtype=np.int32)
    check(function.call(z, labels), generator(z, labels))


@pytest.mark.slow
def test_w_and_noise_maps_are_inputs():
  generator = make_generator("stylegan")
  function = portable.whole(generator, ["w", "noise"])
  noise = [f"noise_{layer}" for layer in range(6)]
  assert list(function.inputs) == ["w", *noise]
  w = generator.map_latents(generator.sample_latents(jax.random.key(0), 2))
  keys = trained.example_keys(jax.random.key(5), 2)
  maps = []
  for layer, name in enumerate(noise):
    folded = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, layer)
    shape = function.inputs[name].shape[1:]
    maps.append(np.stack([jax.random.normal(k, shape) for k in folded]))
  images = exported(generator, ["w", "noise"]).call(
    np.repeat(np.asarray(w)[:, None], 6, axis=1), *maps
  )
  check(images, generator.synthesize(w, noise=jax.random.key(5)))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("model", "pyramid"),
  [
    ("progan", "exact"),
    ("stylegan", "rgb"),
    ("residual", "rgb"),
    ("progan", "pooled"),
    ("stylegan", "pooled"),
  ],
)
def test_segments_equal_the_whole(model, pyramid):
  generator = make_generator(model, num_classes=3, pyramid=pyramid)
  z = generator.sample_latents(jax.random.key(0), 2)
  known = {"z": z, "labels": np.array([2, 0]), "psi": np.float32(0.7)}
  for layer in range(6):
    side = 4 * 2 ** (layer // 2)
    noise = np.random.default_rng(layer).normal(size=(2, side, side))
    known[f"noise_{layer}"] = noise.astype(np.float32)
  variant = ["psi", "noise"] if model == "stylegan" else []
  function = portable.whole(generator, variant)
  wanted = function.call(*(known[name] for name in function.inputs))
  for part in portable.segments(generator):
    results = part.call(*(known[name] for name in part.inputs))
    for name, x in part.inputs.items():  # the declared shapes are true
      assert known[name].shape[1:] == x.shape[1:]
    known |= dict(zip(part.outputs, results, strict=True))
    known["x"] = known.get("next")
  for name, scale in zip(function.outputs, wanted, strict=True):
    np.testing.assert_allclose(known[name], scale, atol=1e-5)


def test_segments_leave_out_the_identity():
  scales = ["scale_4x4", "scale_16x16"]
  for model, classes, names in (
    ("progan", 0, scales),
    ("progan", 3, ["latent", *scales]),
    ("stylegan", 0, ["latent", *scales]),
  ):
    generator = make_generator(model, num_classes=classes)
    assert [part.name for part in portable.segments(generator)] == names
  [at_once] = portable.segments(make_generator("progan", pyramid="pooled"))
  assert at_once.outputs == ("image_4x4", "image_16x16")


def test_exported_functions_have_the_plain_form_alone():
  """jax2onnx knows no other, and a file runs on every platform."""
  for pyramid in ("rgb", "exact", "pooled"):
    generator = make_generator("progan", pyramid=pyramid)
    for part in (portable.whole(generator), *portable.segments(generator)):
      program = jax.make_jaxpr(part.call)(*part.inputs.values())
      assert "platform_index" not in str(program)


def test_impossible_variants():
  for model, variant, sentence in (
    ("progan", ["psi"], "--variant=psi: this generator has no w"),
    ("stylegan", ["psi", "w"], "--variant=psi,w: a given w is not"),
    ("stylegan", ["z"], "--variant=z: 'z' is none of psi, w and noise"),
  ):
    with pytest.raises(ValueError, match=sentence):
      portable.whole(make_generator(model), variant)


def test_a_file_draws_without_the_package(tmp_path):
  generator = make_generator("stylegan")
  source = write_shared(generator, tmp_path / "shared.safetensors")
  output = tmp_path / "new" / "file"
  lines = portable.write(source, output, "stablehlo", variant=["psi"])
  assert lines == [
    "inputs: z (batch, 4) float32, psi () float32",
    "outputs: image_4x4, image_16x16",
  ]
  z = generator.sample_latents(jax.random.key(0), 3)
  given = {"z": z, "psi": np.float32(0.5)}
  for scale in generator(z, truncation_psi=0.5):
    given[portable.image_name(scale.shape[1])] = scale
  np.savez(tmp_path / "given.npz", **given)
  done = run(sys.executable, "-c", STABLEHLO, output, tmp_path / "given.npz")
  assert done.returncode == 0, done.stderr
  assert "tpu" in done.stdout
  content = output.read_bytes()
  with pytest.raises(ValueError, match="exists; choose another --output"):
    portable.write(source, output, "stablehlo")
  assert output.read_bytes() == content


# ONNX.


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
def test_a_process_without_jax_draws_the_images(model, variant, tmp_path):
  classes = 0 if "w" in variant else 3
  generator = make_generator(model, num_classes=classes)
  bounds = {"low": [0.0] * 3, "high": [40.0] * 3, "units": ["K"] * 3}
  known = {**bounds, "dtype": "uint16"}
  card = {safetensors_file.RANGE: json.dumps(known)}
  source = write_shared(generator, tmp_path / "a.safetensors", card)
  output = tmp_path / "a.onnx"
  flags = [f"--workdir={source}", "--format=onnx", f"--output={output}"]
  flags.append(f"--variant={variant}")
  done = run(PYTHON, "-m", "msggan_jax.export", *flags)
  assert done.returncode == 0, done.stderr
  function = portable.whole(generator, variant.split(",") if variant else ())
  random = np.random.default_rng(0)
  given = {"labels": np.array([2, 0, 1], np.int32), "psi": np.float32(0.5)}
  for name, x in function.inputs.items():
    if name not in given:
      values = random.normal(size=(3, *x.shape[1:]))
      given[name] = values.astype(np.float32)
  arrays = [given[name] for name in function.inputs]
  images = jax.jit(function.call)(*arrays)
  given |= dict(zip(function.outputs, images, strict=True))
  np.savez(tmp_path / "given.npz", **given)
  done = run(PYTHON, "-c", ONNX, output, tmp_path / "given.npz")
  assert done.returncode == 0, done.stderr
  names, of_values = done.stdout.splitlines()
  assert names == str(list(function.inputs))
  assert json.loads(of_values) == known  # as the .safetensors file has it
