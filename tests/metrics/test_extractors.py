"""Inception against torch-fidelity; EfficientNet-Lite0; batches and devices."""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax import metrics
from msggan_jax.kernels.precision import matmul
from msggan_jax.metrics import (
  efficientnet,
  frozen_network,
  inception,
)
from tests import weight_files

FOLDER = Path(__file__).parents[1] / "golden_metrics"
GOLDEN = np.load(FOLDER / "inception.npz")


def make_weight(name, s):
  r = np.random.RandomState(zlib.crc32(name.encode()))
  if name.endswith("conv.weight"):
    array = r.randn(*s) * np.sqrt(2 / np.prod(s[1:]))
  elif name.endswith("bn.weight"):
    array = 1 + 0.1 * r.randn(*s)
  elif name.endswith("running_var"):
    array = 0.5 + r.rand(*s)
  elif name == "fc.weight":
    array = 0.05 * r.randn(*s)
  else:
    array = 0.1 * r.randn(*s)
  return array.astype(np.float32)


def make_images(seed, n, size):
  r = np.random.RandomState(seed)
  low = r.rand(n, size // 8, size // 8, 3)
  x = low.repeat(8, axis=1).repeat(8, axis=2)
  x = x + 0.15 * r.randn(n, size, size, 3)
  return (np.clip(x, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights():
  """The weights of the golden file's README."""
  shapes = json.loads((FOLDER / "inception_shapes.json").read_text())
  return {name: make_weight(name, s) for name, s in shapes.items()}


@pytest.mark.parametrize(
  "size", [32, pytest.param(128, marks=pytest.mark.slow)]
)
def test_inception_agrees_with_torch_fidelity(size, weights, monkeypatch):
  monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
  network = metrics.Inception.from_state_dict(weights)
  features = network.features(make_images(size, 4, size))
  assert len(features) == 6
  for name, actual in features.items():
    expected = GOLDEN[f"f{name}_{size}"]
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error < 1e-5, name


def test_other_weights_are_refused(weights):
  lacking = {k: v for k, v in weights.items() if "Mixed_6c" not in k}
  with pytest.raises(ValueError, match="the weights lack Mixed_6c"):
    metrics.Inception.from_state_dict(lacking)
  wrong = weights | {"fc.weight": weights["fc.weight"][:1000]}
  with pytest.raises(ValueError, match="fc.weight is float32 .1000, 2048."):
    metrics.Inception.from_state_dict(wrong)
  path = FOLDER.parent / "golden" / "bmsg_32_GAN_DIS_1.pth"
  with pytest.raises(ValueError, match="bmsg_32.*not Inception.*Conv2d_1a"):
    metrics.Inception.from_file(path)


def test_a_weight_file_is_read(tmp_path, monkeypatch):
  def apply(layers, images):
    fc = layers.dense("fc", (2, 3))
    return {"2048": matmul(images[:, 0, 0] / 255, fc["kernel"])}

  monkeypatch.setattr(inception, "_apply", apply)
  path = tmp_path / "inception.pth"
  weights = {
    f"fc.{part}": make_weight("fc.weight", shape)
    for part, shape in (("weight", (2, 3)), ("bias", (2,)))
  }
  with monkeypatch.context() as patch:
    weight_files.install_stand_ins(patch)
    path.write_bytes(weight_files.torch_bytes(weights, is_zip=True))
  network = metrics.Inception.from_file(path)
  expected = metrics.Inception.from_state_dict(weights)
  assert network.weights_hash == expected.weights_hash
  other = metrics.Inception.from_file(path, jnp.bfloat16)
  assert other.weights_hash == network.weights_hash + "-bfloat16"


def test_resizes_as_tensorflow_1_does():
  row = jnp.array([0.0, 10.0, 30.0, 70.0])
  images = jnp.broadcast_to(row[None, None, :, None], (1, 4, 4, 1))
  up = inception.resize(images, 8)[0, 0, :, 0]
  np.testing.assert_allclose(up, [0, 5, 10, 20, 30, 50, 70, 70])
  down = inception.resize(images, 2)[0, 0, :, 0]
  np.testing.assert_allclose(down, [0, 30])


def colors(layers, images):
  """A network in the shape of the others: a few products of mean colors."""
  del layers
  pixels = images.astype(jnp.float32).mean(axis=(1, 2)) / 255
  return {"colors": jnp.concatenate([pixels, pixels**2, 1 - pixels], axis=-1)}


def test_batches_and_devices_change_nothing(monkeypatch):
  devices = jax.devices()[:3]
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  network = frozen_network.FrozenNetwork(colors, {}, jnp.float32)
  images = make_images(5, 100, 8)
  parts = [
    network.features(images[start : start + 7])["colors"]
    for start in range(0, len(images), 7)
  ]
  assert network._apply._cache_size() == 1  # the last one is padded
  expected = colors(None, jnp.asarray(images))["colors"]
  np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-6)


def test_gray_and_transparent_images_are_rgb():
  """Also of a batch on the devices."""
  network = frozen_network.FrozenNetwork(colors, {}, jnp.float32)
  gray = make_images(1, 16, 8)[..., :1]
  as_rgb = gray.repeat(3, axis=-1)
  with_alpha = [np.concatenate([as_rgb, gray * 0 + a], -1) for a in (255, 0)]
  for given, wanted in (
    (gray, as_rgb),
    (with_alpha[0], as_rgb),
    (with_alpha[1], as_rgb * 0 + 255),
  ):
    expected = network.features(wanted)["colors"]
    np.testing.assert_array_equal(network.features(given)["colors"], expected)
    on_devices = frozen_network.on_local_devices(given)
    assert on_devices.sharding.num_devices == 8
    actual = network.features(on_devices)["colors"]
    np.testing.assert_array_equal(actual, expected)
  with pytest.raises(ValueError, match="uint8"):
    network.features(as_rgb.astype(np.float32))


def test_depthwise_convolution_agrees_with_xla():
  r = np.random.RandomState(0)
  convolve = jax.jit(efficientnet._convolve_depthwise, static_argnums=2)
  for side, stride, size in ((3, 1, 9), (3, 2, 8), (5, 2, 9)):
    x = r.randn(2, size, size, 6).astype(np.float32)
    kernel = r.randn(side, side, 1, 6).astype(np.float32)
    layer = {"kernel": kernel, "bias": np.zeros(6, np.float32)}
    expected = jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=6,
    )
    actual = convolve(x, layer, stride)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_efficientnet_knows_stripes(monkeypatch):
  """Among its first guesses at wavy stripes is a zebra (340)."""
  monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
  network = metrics.EfficientNetLite0.from_package()
  y, x = np.mgrid[:224, :224]
  stripes = (np.sin((x + 12 * np.sin(y / 18)) / 5) > 0) * np.uint8(255)
  stripes = np.repeat(stripes[None, :, :, None], 3, axis=3)
  features = network.features(stripes.astype(np.uint8))
  assert features["1280"].shape == (1, 1280)
  assert 340 in features["logits"][0].argsort()[-5:]
