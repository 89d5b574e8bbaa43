"""Workdirs of weight files: the command, widths, labels, msg-gan-v1."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from msggan_jax import load_discriminator, load_generator
from msggan_jax.algorithm import program
from msggan_jax.checkpoints import checkpoint
from msggan_jax.checkpoints.tensors import flatten
from msggan_jax.config import saved
from msggan_jax.models import networks
from msggan_jax.runtime import sharding
from msggan_jax.sharing.foreign import bmsg_gan, conversion
from msggan_jax.sharing.foreign import msg_stylegan_tf as tf
from tests import weight_files
from tests.commands import run_command
from tests.conftest import load_config
from tests.weight_files import torch_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
BMSG_G = GOLDEN / "bmsg_32_GAN_GEN_SHADOW_1.pth"
BMSG_D = GOLDEN / "bmsg_32_GAN_DIS_1.pth"


def convert_to(workdir, source, generator, discriminator=None):
  weights = conversion.read(source, str(generator), discriminator)
  return conversion.write(weights, conversion.PRESETS[source], workdir)


def test_the_command(tmp_path):
  new = tmp_path / "new"
  (new / "checkpoints").mkdir(parents=True)  # as a full disk leaves it
  files = (f"--generator={BMSG_G}", f"--discriminator={BMSG_D}")
  said = run_command("convert", "--source=bmsg-gan", *files, f"--workdir={new}")
  assert "--config=configs/default.py:bmsg_gan --config.resolution=32" in said
  with pytest.raises(ValueError, match=f"^{new} is not empty; choose another"):
    convert_to(new, "bmsg-gan", BMSG_G)


def test_all_misfits_are_listed_and_nothing_is_written(tmp_path):
  with pytest.raises(ValueError) as error:
    convert_to(tmp_path / "wrong", "bmsg-gan", BMSG_G, str(BMSG_G))
  for line in (
    "missing: final_block.conv_1.weight (16, 17, 3, 3)",
    "unused: rgb_converters.0.weight (3, 16, 1, 1)",
    "layers.0.conv_2.weight is (16, 16, 3, 3), expected",
  ):
    assert line in str(error.value)
  assert not (tmp_path / "wrong").exists()


def test_a_generator_alone_can_be_trained_on(tmp_path):
  """The checkpoint is a run's whole state, with a fresh discriminator."""
  config = convert_to(tmp_path / "run", "bmsg-gan", BMSG_G)
  mesh = sharding.make_mesh(jax.devices()[:1])
  expected = program.make_program(config, mesh).abstract_state
  with checkpoint.Checkpoints(tmp_path / "run/checkpoints") as checkpoints:
    state = checkpoints.restore(expected)
  assert state.step == 0
  jax.tree.map(np.testing.assert_array_equal, state.g_params, state.ema_params)
  assert float(np.std(state.d_params["block_4x4"]["conv_0"]["kernel"])) > 0.9
  saved.check_config(config, tmp_path / "run")


STYLEGAN = str(GOLDEN / "msg_stylegan_16.pkl")


def test_files_of_another_source_are_refused(tmp_path):
  text, nothing = tmp_path / "notes.pth", tmp_path / "nothing.pth"
  text.write_text("not weights")
  none_of_it = f"^{text}: not a .*file.*, .*pickle$"
  for source, generator, discriminator, sentence in (
    ("msg-gan-v1", BMSG_G, None, "this is not a generator of this source"),
    ("bmsg-gan", STYLEGAN, None, r"uses 'dnnlib\.tflib"),
    ("msg-stylegan-tf", STYLEGAN, str(BMSG_D), "contain all networks"),
    ("bmsg-gan", nothing, None, "does not exist or is not a file"),
    *((source, text, None, none_of_it) for source in conversion.PRESETS),
  ):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
      conversion.read(source, str(generator), discriminator)


def tensors_of(table, config, make_network, seed):
  """Draw a file's tensors, by the names and shapes of a table."""
  rng = np.random.RandomState(seed)
  tensors = {}
  for path, leaf in flatten(*make_network(config).shapes).items():
    name, layout = table[path]
    tensors[name] = rng.randn(*layout.their_shape(leaf.shape)).astype("f4")
  return tensors


# MSG-StyleGAN.

LABELED = {
  "resolution": 8,
  "label_size": 3,
  "latent_size": 6,
  "dlatent_size": 5,
  "mapping_fmaps": 7,
  "mapping_layers": 3,
  "fmap_base": 16,
  "fmap_max": 4,
}
FIELDS = {
  "model": "stylegan",
  "combine": "cat_lin",
  "resolution": 8,
  "num_classes": 3,
  "latent_size": 6,
  "w_size": 5,
  "mapping_size": 7,
  "mapping_layers": 3,
  "base_channels": 32,
  "max_channels": 4,
  "stddev_group": 2,
  "stddev_grouping": "strided",
}


def tf_networks():
  config = load_config("default", "msg_stylegan_official")
  config.update({k: v for k, v in FIELDS.items() if k in config})
  g_table = tf.generator_table((4, 8), mapping_layers=3, num_classes=3)
  d_table = tf.discriminator_table((4, 8), channels=3)

  def generator(seed):
    drawn = tensors_of(g_table, config, networks.make_generator, seed)
    parts = {"synthesis": {}, "mapping": {}, "G": {}}
    for name, tensor in drawn.items():
      part, _, rest = name.partition("/")
      if rest:
        parts[part][rest] = tensor
      else:
        parts["G"][name] = tensor
    components = {
      part: weight_files.Network(f"G_{part}", LABELED, parts[part])
      for part in ("synthesis", "mapping")
    }
    return drawn, weight_files.Network("G", LABELED, parts["G"], components)

  g, g_network = generator(0)
  gs, gs_network = generator(1)
  d = tensors_of(d_table, config, networks.make_discriminator, 2)
  shared = ("resolution", "label_size", "fmap_base", "fmap_max")
  kwargs = {k: LABELED[k] for k in shared} | {"mbstd_group_size": 2}
  d_network = weight_files.Network("D", kwargs, d)
  return g, d, gs, (g_network, d_network, gs_network)


def test_stylegan_with_labels_and_its_moving_average(tmp_path, stand_ins):
  g, _, gs, pickled = tf_networks()
  path = tmp_path / "network.pkl"
  path.write_bytes(pickle.dumps(pickled, 4))
  workdir = tmp_path / "run"
  config = convert_to(workdir, "msg-stylegan-tf", path)
  assert {name: config[name] for name in FIELDS} == FIELDS

  # w of Gs, by the facts of reference/peers.md, section 1.2.
  z = np.random.RandomState(3).randn(4, 6).astype("f4")
  labels = np.array([0, 2, 1, 2])
  x = np.concatenate([z, gs["mapping/LabelConcat/weight"][labels]], axis=1)
  x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)
  for i in range(3):
    kernel = gs[f"mapping/Dense{i}/weight"]
    x = x @ kernel * (0.01 * np.sqrt(2 / len(kernel)))
    x += 0.01 * gs[f"mapping/Dense{i}/bias"]
    x = np.where(x > 0, x, 0.2 * x)
  generator = load_generator(workdir)
  np.testing.assert_allclose(
    generator.map_latents(z, labels), x, rtol=1e-4, atol=1e-6
  )
  np.testing.assert_array_equal(generator.state["w_avg"], gs["dlatent_avg"])
  load_discriminator(workdir)  # its tensors fit, with labels

  # Training resumes from G, not from the moving average.
  network = networks.make_generator(config)
  on_one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  wanted = {"g_params": network.shapes[0]}
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    state = checkpoints.restore(sharding.abstract(wanted, on_one))
  np.testing.assert_array_equal(
    state["g_params"]["mapping"]["dense_0"]["kernel"],
    g["mapping/Dense0/weight"],
  )


def test_impossible_settings(tmp_path, stand_ins):
  *_, pickled = tf_networks()
  path = tmp_path / "network.pkl"
  settings = [network.state["static_kwargs"] for network in pickled]
  for changed, change, sentence in (
    ([1], {"fmap_max": 8}, "differ in fmap_max"),
    ([1], {"nonlinearity": "relu"}, "nonlinearity='relu'; only 'lrelu'"),
    ([1], {"fused_scale": False}, "fused_scale='False'; only 'auto'"),
    ([1], {"fmap_base": -1}, "impossible fmap_base='-1'"),
    ([1], {"resolution": [8]}, "impossible resolution=a list"),
    # Networks are built before tensors are counted: that would take hours.
    ([0, 2], {"mapping_layers": 4096}, "impossible mapping_layers='4096'"),
  ):
    for i, network in enumerate(pickled):
      more = change if i in changed else {}
      network.state["static_kwargs"] = settings[i] | more
    path.write_bytes(pickle.dumps(pickled, 4))
    with pytest.raises(ValueError, match=sentence):
      conversion.read("msg-stylegan-tf", str(path), None)


# msg-gan-v1 against its facts in NumPy (reference/peers.md, 1.5 and 7.2).


def v1_tensors():
  """Draw G and D of 32x32 with latents of 8."""
  config = load_config("default", "msg_gan_v1")
  config.update(resolution=32, latent_size=8, base_channels=256, max_channels=8)
  both = []
  for seed, (make, table) in enumerate(
    (
      (networks.make_generator, bmsg_gan.generator_table),
      (networks.make_discriminator, bmsg_gan.discriminator_table),
    )
  ):
    scales = (4, 8, 16, 32)
    tensors = tensors_of(table(scales, spectral_norm=True), config, make, seed)
    for name in [name for name in tensors if name.endswith("_orig")]:
      weight = tensors[name]
      is_transposed = weight.shape[2:] == (4, 4) and not seed
      matrix = weight.swapaxes(0, 1) if is_transposed else weight
      # u is not yet converged, as in a file.
      u = tensors[name.replace("_orig", "_u")]
      u /= np.linalg.norm(u)
      v = u @ matrix.reshape(len(matrix), -1)
      tensors[name.replace("_orig", "_v")] = v / np.linalg.norm(v)
    both.append(tensors)
  return both


def without_right_vectors(tensors):
  """Return a state dict as PyTorch before 1.0 wrote it."""
  return {k: v for k, v in tensors.items() if not k.endswith("weight_v")}


def effective(tensors, name, transposed=False):
  if f"{name}.weight" in tensors:
    return tensors[f"{name}.weight"]
  weight = tensors[f"{name}.weight_orig"]
  matrix = weight.swapaxes(0, 1) if transposed else weight
  matrix = matrix.reshape(len(matrix), -1)
  u, v = tensors[f"{name}.weight_u"], tensors[f"{name}.weight_v"]
  return weight / (u @ matrix @ v)


def convolve(tensors, name, x, padding):
  weight = effective(tensors, name)
  size = weight.shape[-1]
  x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
  patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
  y = np.einsum("bihwkl,oikl->bohw", patches, weight)
  return y + tensors[f"{name}.bias"][:, None, None]


def lrelu(x):
  return np.where(x > 0, x, 0.2 * x)


def v1_generate(G, z):
  kernel = effective(G, "layers.0.conv_1", transposed=True)
  x = np.einsum("bi,iohw->bohw", z, kernel)
  x = lrelu(x + G["layers.0.conv_1.bias"][:, None, None])
  x = lrelu(convolve(G, "layers.0.conv_2", x, 1))
  images = [np.tanh(convolve(G, "rgb_converters.0", x, 0))]
  for i in range(1, 4):
    x = x.repeat(2, axis=2).repeat(2, axis=3)
    x = lrelu(convolve(G, f"layers.{i}.conv_1", x, 1))
    x = lrelu(convolve(G, f"layers.{i}.conv_2", x, 1))
    images.append(np.tanh(convolve(G, f"rgb_converters.{i}", x, 0)))
  return images


def v1_score(D, images):
  x = convolve(D, "rgb_to_features.3", images[3], 0)
  for i in (3, 2, 1):
    x = lrelu(convolve(D, f"layers.{i}.conv_1", x, 1))
    x = lrelu(convolve(D, f"layers.{i}.conv_2", x, 1))
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
    rgb = convolve(D, f"rgb_to_features.{i - 1}", images[i - 1], 0)
    x = np.concatenate([rgb, x], axis=1)
  spread = np.sqrt(x.var(axis=0) + 1e-8).mean(axis=0)[None, None]
  x = np.concatenate([x, spread.repeat(len(x), axis=0)], axis=1)
  x = lrelu(convolve(D, "layers.0.conv_1", x, 1))
  x = lrelu(convolve(D, "layers.0.conv_2", x, 0))
  return convolve(D, "layers.0.conv_3", x, 0).ravel()


@pytest.mark.parametrize(
  ("is_zip", "prefix", "right_vectors"),
  [(True, "", True), (False, "module.", False)],
)
def test_msg_gan_v1(tmp_path, stand_ins, is_zip, prefix, right_vectors):
  G, D = v1_tensors()
  for name, tensors in (("G", G), ("D", D)):
    given = tensors if right_vectors else without_right_vectors(tensors)
    content = {f"{prefix}{key}": value for key, value in given.items()}
    (tmp_path / name).write_bytes(torch_bytes(content, is_zip))
  workdir = tmp_path / "run"
  convert_to(workdir, "msg-gan-v1", tmp_path / "G", str(tmp_path / "D"))
  z = np.random.RandomState(1).randn(4, 8).astype("f4")
  theirs = v1_generate(G, z)
  ours = load_generator(workdir)(z)
  for image, expected in zip(ours, theirs, strict=True):
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-5)
  logits = load_discriminator(workdir)(ours)
  np.testing.assert_allclose(logits, v1_score(D, theirs), rtol=1e-4, atol=1e-5)
