"""Numbers of the authors' own code, from the same weights and inputs.

tests/golden/README.md says what the files hold. Each network is converted,
loaded as a user would, and compared.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msggan_jax import kernels, load_discriminator, load_generator
from msggan_jax.algorithm import losses
from msggan_jax.checkpoints.tensors import flatten
from msggan_jax.models import networks
from msggan_jax.models.pyramid import make_pyramid
from msggan_jax.sharing.foreign import conversion

GOLDEN = Path(__file__).parents[1] / "golden"
BMSG = {
  "source": "bmsg-gan",
  "generator": str(GOLDEN / "bmsg_32_GAN_GEN_SHADOW_1.pth"),
  "discriminator": str(GOLDEN / "bmsg_32_GAN_DIS_1.pth"),
}
FILES = {
  "bmsg_32": BMSG,
  **{
    name: {
      "source": "msg-stylegan-tf",
      "generator": str(GOLDEN / f"{name}.pkl"),
      "discriminator": None,
    }
    for name in ("msg_stylegan_16", "msg_stylegan_256")
  },
}
# Compiling takes the time here, so XLA is told to make no effort.
QUICK_JIT = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


@dataclasses.dataclass
class Golden:
  """A golden file, and our networks with its weights."""

  numbers: dict
  generator: object
  discriminator: object
  g_paths: dict  # their names of the generator's tensors to our paths
  d_paths: dict

  @property
  def reals(self):
    pixels = self.numbers["real_uint8"].transpose(0, 2, 3, 1)
    # In the widest type: the numbers are the file's, not float32's.
    x = jnp.asarray(pixels, jnp.result_type(float)) / 127.5 - 1
    return make_pyramid(x, self.scales)

  @property
  def scales(self):
    resolution = self.generator.config.resolution
    return tuple(2**i for i in range(2, resolution.bit_length()))


@pytest.fixture(scope="module")
def load_golden(tmp_path_factory):
  """A function of a name that loads its file once."""

  @functools.cache
  def load(name):
    weights = conversion.read(**FILES[name])
    preset = conversion.PRESETS[FILES[name]["source"]]
    workdir = tmp_path_factory.mktemp(name)
    conversion.write(weights, preset, workdir)
    inverse = lambda table: {s.name: path for path, s in table.items()}
    return Golden(
      dict(np.load(GOLDEN / f"{name}.npz")),
      load_generator(workdir),
      load_discriminator(workdir),
      inverse(weights.g_table),
      inverse(weights.d_table),
    )

  return load


def relative_error(ours, theirs):
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  assert ours.shape == theirs.shape
  return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def assert_images(pyramid, numbers, prefix):
  for image in pyramid:
    theirs = numbers[f"{prefix}{image.shape[1]}"]
    ours = np.asarray(image).transpose(0, 3, 1, 2)[: len(theirs)]
    assert relative_error(ours, theirs) < 1e-5, f"{prefix}{image.shape[1]}"


def test_bmsg_images_and_scores(load_golden):
  bmsg = load_golden("bmsg_32")
  fakes = bmsg.generator(bmsg.numbers["z"])
  assert_images(fakes, bmsg.numbers, "G_")
  assert_scores(bmsg, fakes)


@pytest.mark.parametrize("name", ["msg_stylegan_16", "msg_stylegan_256"])
def test_stylegan_images_and_scores(name, load_golden):
  stylegan = load_golden(name)
  numbers = stylegan.numbers
  w = stylegan.generator.map_latents(numbers["z"])
  assert relative_error(w, numbers["w"]) < 1e-5
  # Every layer's w, as after truncation: one compilation for both.
  layers = np.repeat(w[:, None], 2 * len(stylegan.scales), axis=1)
  fakes = stylegan.generator.synthesize(layers)
  assert_images(fakes, numbers, "G_notrunc_")
  assert_scores(stylegan, fakes)
  options = {"truncation_psi": 0.7, "truncation_cutoff": 8}
  truncated = stylegan.generator(numbers["z"], **options)
  same = stylegan.generator.truncate(w, **options)
  for images in (truncated, stylegan.generator.synthesize(same)):
    assert_images(images, numbers, "G_trunc0.7_cut8_")


def assert_scores(golden, fakes):
  for kind, pyramid in (("real", golden.reals), ("fake", fakes)):
    theirs = golden.numbers[f"D_{kind}"].ravel()
    ours = np.asarray(golden.discriminator(pyramid))
    # What distinguishes the examples is a small part of a score.
    varying = relative_error(ours - ours.mean(), theirs - theirs.mean())
    assert relative_error(ours, theirs) < 1e-5
    assert varying < 1e-3


SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ("name", "dtype", "folding"),
  [
    ("bmsg_32", jnp.float32, False),
    SLOW("bmsg_32", jnp.float32, True),
    SLOW("bmsg_32", jnp.float64, False),
    ("msg_stylegan_16", jnp.float32, False),
    SLOW("msg_stylegan_16", jnp.float32, True),
    SLOW("msg_stylegan_16", jnp.float64, False),
    SLOW("msg_stylegan_256", jnp.float32, False),
    SLOW("msg_stylegan_256", jnp.float32, True),
    SLOW("msg_stylegan_256", jnp.float64, False),
  ],
)
def test_losses_and_gradients(name, dtype, folding, load_golden, request):
  golden = load_golden(name)
  if dtype == jnp.float64:
    request.getfixturevalue("float64")
  check = check_bmsg if name == "bmsg_32" else check_stylegan
  check(golden, dtype, folding)


def check_bmsg(bmsg, dtype, folding):
  numbers = bmsg.numbers
  fakes_of, g_params, scores, d_params, reals = functions(bmsg, dtype, folding)
  epsilon = jnp.asarray(numbers["eps"], dtype)
  hinge = losses.adversarial("relativistic_hinge")
  wasserstein = losses.adversarial("wasserstein")

  @QUICK_JIT
  def compute(g_params, d_params):
    fakes = fakes_of(g_params)

    def hinge_d(d_params):
      return hinge.d_loss(scores(d_params, reals), scores(d_params, fakes))

    def hinge_g(g_params):
      return hinge.g_loss(
        scores(d_params, reals), scores(d_params, fakes_of(g_params))
      )

    def wgan_gp(d_params):
      penalty = losses.gradient_penalty(
        lambda pyramid: scores(d_params, pyramid),
        tuple(map(kernels.like, reals, fakes)),
        fakes,
        epsilon,
      )
      loss = wasserstein.d_loss(
        scores(d_params, reals), scores(d_params, fakes)
      )
      return loss + 10 * penalty.mean(), penalty

    return (
      jax.value_and_grad(hinge_d)(d_params),
      jax.value_and_grad(hinge_g)(g_params),
      jax.value_and_grad(wgan_gp, has_aux=True)(d_params),
    )

  hinge_d, hinge_g, ((wgan_loss, penalty), wgan_grads) = compute(
    g_params, d_params
  )
  assert_close("rahinge_d", hinge_d[0], numbers["rahinge_d"])
  assert_close("rahinge_g", hinge_g[0], numbers["rahinge_g"])
  assert_close("wgangp_d", wgan_loss, numbers["wgangp_d"])
  for ours, theirs in zip(penalty, numbers["gp_per_scale"], strict=True):
    assert_close("gp", ours, theirs)
  assert penalty.shape == numbers["gp_per_scale"].shape
  for kind, grads in (("rahinge_d", hinge_d[1]), ("wgangp_d", wgan_grads)):
    assert_norms(
      grads, bmsg.d_paths, numbers["d_names"], numbers[f"{kind}_grad_norms"]
    )
  assert_norms(
    *(hinge_g[1], bmsg.g_paths, numbers["g_names"]),
    numbers["rahinge_g_grad_norms"],
  )


def check_stylegan(stylegan, dtype, folding):
  numbers = stylegan.numbers
  fakes_of, g_params, scores, d_params, reals = functions(
    stylegan, dtype, folding
  )
  logistic = losses.adversarial("logistic")

  @QUICK_JIT
  def compute(g_params, d_params):
    fakes = fakes_of(g_params)

    def d_loss(d_params):
      critic = lambda pyramid: scores(d_params, pyramid)
      total = losses.r1_penalty(critic, reals, "total")
      loss = logistic.d_loss(critic(reals), critic(fakes))
      return loss + 5 * total.mean(), total

    def g_loss(g_params):
      fake_logits = scores(d_params, fakes_of(g_params))
      return logistic.g_loss(fake_logits, fake_logits)

    partial = losses.r1_penalty(
      lambda pyramid: scores(d_params, pyramid), reals, "partial"
    )
    return (
      jax.value_and_grad(d_loss, has_aux=True)(d_params),
      jax.value_and_grad(g_loss)(g_params),
      partial,
    )

  ((d_loss, total), d_grads), (g_loss, g_grads), partial = compute(
    g_params, d_params
  )
  assert_close("d_loss", d_loss, numbers["d_loss"])
  assert_close("g_loss", g_loss, numbers["g_loss"])
  assert_close("total", total, numbers["r1_total_per_scale_sample"])
  assert_close("partial", partial, numbers["r1_partial_per_scale_sample"])
  assert_norms(
    d_grads,
    stylegan.d_paths,
    numbers["D_grad_names"],
    numbers["D_grad_norms"],
  )
  names = [name.removeprefix("G_") for name in numbers["G_grad_names"]]
  assert_norms(g_grads, stylegan.g_paths, names, numbers["G_grad_norms"])


def functions(golden, dtype, folding):
  """Return G of its parameters, and these, D likewise, and the reals."""
  cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
  forms = kernels.FOLDED if folding else kernels.BY_PLATFORM
  g = networks.make_generator(golden.generator.config, forms)
  d = networks.make_discriminator(golden.discriminator.config, forms)
  g_params, g_state, d_params, d_state, z, reals = cast(
    (
      *(golden.generator.params, golden.generator.state),
      *(golden.discriminator.params, golden.discriminator.state),
      *(golden.numbers["z"], golden.reals),
    )
  )

  def fakes_of(g_params):
    return g.apply(g_params, g_state, z)

  def scores(d_params, pyramid):
    return d.apply(d_params, d_state, pyramid)

  return fakes_of, g_params, scores, d_params, reals


def assert_close(name, ours, theirs):
  assert relative_error(ours, theirs) < 1e-5, name


def assert_norms(grads, paths, names, theirs):
  """Compare the gradient norm of every parameter, by the peer's names."""
  leaves = flatten(grads)
  assert sorted(paths[name] for name in names) == sorted(leaves)
  ours = np.array([np.linalg.norm(leaves[paths[name]]) for name in names])
  if next(iter(leaves.values())).dtype == jnp.float64:
    bound = 1e-4 * theirs + 1e-12 * theirs.max()
  else:
    bound = 1e-3 * theirs + 1e-5 * theirs.max()
  np.testing.assert_array_less(np.abs(ours - theirs), bound)
