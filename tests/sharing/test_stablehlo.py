"""Generators as StableHLO: any batch, every input, without the package."""

import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest

from msggan_jax.checkpoints import trained
from msggan_jax.models import networks
from msggan_jax.sharing import portable
from tests.conftest import load_config

# Draws the images without msggan_jax, of which any import fails.
SCRIPT = """
import sys
sys.modules["msggan_jax"] = None
import jax.export, numpy as np
given = np.load(sys.argv[2])
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
for batch in (1, 3):
  for name, images in exported.call(given["z"][:batch]).items():
    assert np.abs(images - given[name][:batch]).max() < 1e-4, (name, batch)
print(exported.platforms)
"""


def make_generator(model, **fields):
  """Return a random generator up to 16x16 whose 8x8 images are missing."""
  config = load_config("default", f"msg_{model}")
  config.resolution = 16
  config.latent_size = config.w_size = config.mapping_size = 6
  config.mapping_layers = 2
  config.base_channels, config.max_channels = 64, 8
  config.connected_scales = (4, 16)
  config.update(fields)
  network = networks.make_generator(config)
  params, state = network.init(jax.random.key(1))
  if model == "stylegan":
    state["w_avg"] += 0.2
    for block in ("block_4x4", "block_16x16"):
      params[block]["layer_1"]["noise_weight"] += 0.3
  return trained.Generator(config, network, params, state)


def check(images, pyramid):
  assert list(images) == ["image_16x16", "image_4x4"]
  for scale in pyramid:
    name = portable.image_name(scale.shape[1])
    np.testing.assert_allclose(images[name], scale, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["progan", "stylegan", "residual"])
def test_images_are_the_same_at_any_batch_size(model):
  generator = make_generator(model, num_classes=3, channels=1)
  content = portable.to_stablehlo(portable.whole(generator))
  exported = jax.export.deserialize(content)
  assert exported.platforms == portable.PLATFORMS
  for batch in (1, 3):
    z = generator.sample_latents(jax.random.key(batch), batch)
    labels = np.arange(batch, dtype=np.int32)
    check(exported.call(z, labels), generator(z, labels))


@pytest.mark.slow
def test_psi_truncates():
  generator = make_generator("stylegan")
  function = portable.whole(generator, ["psi"])
  exported = jax.export.deserialize(portable.to_stablehlo(function))
  z = generator.sample_latents(jax.random.key(0), 2)
  images = exported.call(z, np.float32(0.5))
  check(images, generator(z, truncation_psi=0.5))


@pytest.mark.slow
def test_w_and_noise_maps_are_inputs():
  generator = make_generator("stylegan")
  function = portable.whole(generator, ["w", "noise"])
  assert [each.name for each in function.inputs] == [
    "w",
    *(f"noise_{layer}" for layer in range(6)),
  ]
  exported = jax.export.deserialize(portable.to_stablehlo(function))
  w = generator.map_latents(generator.sample_latents(jax.random.key(0), 2))
  keys = trained.example_keys(jax.random.key(5), 2)
  maps = []
  for each in function.inputs[1:]:
    layer = int(each.name.removeprefix("noise_"))
    folded = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, layer)
    maps.append(np.stack([jax.random.normal(k, each.shape) for k in folded]))
  images = exported.call(np.repeat(np.asarray(w)[:, None], 6, axis=1), *maps)
  check(images, generator.synthesize(w, noise=jax.random.key(5)))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["progan", "stylegan", "residual"])
def test_segments_equal_the_whole(model):
  generator = make_generator(model, num_classes=3)
  z = generator.sample_latents(jax.random.key(0), 2)
  known = {"z": z, "labels": np.array([2, 0]), "psi": np.float32(0.7)}
  for layer in range(6):
    side = 4 * 2 ** (layer // 2)
    noise = np.random.default_rng(layer).normal(size=(2, side, side))
    known[f"noise_{layer}"] = noise.astype(np.float32)
  variant = ["psi", "noise"] if model == "stylegan" else []
  function = portable.whole(generator, variant)
  wanted = function.call(*(known[each.name] for each in function.inputs))
  parts = portable.segments(generator)
  names = [part.name for part in parts]
  assert names == ["latent", "scale_4x4", "scale_16x16"]
  for part in parts:
    results = part.call(*(known[each.name] for each in part.inputs))
    for each in part.inputs:  # the declared shapes are true
      shape = known[each.name].shape[1:] if each.batched else ()
      assert shape == each.shape
    known |= dict(zip(part.outputs, results, strict=True))
    known["x"] = known.get("next")
  for name, scale in zip(function.outputs, wanted, strict=True):
    np.testing.assert_allclose(known[name], scale, atol=1e-5)


def test_a_process_without_the_package_draws_the_images(tmp_path):
  generator = make_generator("progan")
  z = generator.sample_latents(jax.random.key(0), 3)
  images = {
    portable.image_name(scale.shape[1]): scale for scale in generator(z)
  }
  content = portable.to_stablehlo(portable.whole(generator))
  (tmp_path / "file").write_bytes(content)
  np.savez(tmp_path / "given.npz", z=z, **images)
  arguments = [str(tmp_path / "file"), str(tmp_path / "given.npz")]
  done = subprocess.run(
    [sys.executable, "-c", SCRIPT, *arguments],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "tpu" in done.stdout


@pytest.mark.parametrize(
  ("model", "variant", "sentence"),
  [
    ("progan", ["psi"], "--variant=psi: this generator has no w"),
    ("stylegan", ["psi", "w"], "--variant=psi,w: a given w is not"),
    ("stylegan", ["z"], "--variant=z: 'z' is none of psi, w and noise"),
  ],
)
def test_impossible_variants(model, variant, sentence):
  with pytest.raises(ValueError, match=sentence):
    portable.whole(make_generator(model), variant)
