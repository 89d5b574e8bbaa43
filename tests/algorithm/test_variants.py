"""Training of every variant; power iteration as PyTorch does it.

`tests/sharing/test_convert.py` compares msg-gan-v1 with NumPy.
"""

import itertools

import jax
import numpy as np
import pytest

from msggan_jax.algorithm import losses, penalties
from msggan_jax.models import networks
from msggan_jax.models.discriminator import COMBINE_FUNCTIONS
from msggan_jax.models.residual import BLOCKS
from tests.algorithm.runs import Run, random_arrays, small_config

pytestmark = pytest.mark.usefixtures("standard_promotion")


# With the paper's MSG-ProGAN, of which tests/test_example.py checks every
# number: every loss, penalty, network and phi.
COVERING_SET = [
  ("msg_progan", "hinge", "one_sided", "lin_cat"),
  ("msg_stylegan", "logistic", "r1", "cat_lin"),
  ("bmsg_gan", "relativistic_hinge", "none", "lin_cat_equal"),
  ("msg_gan_v1", "relativistic_pairing", "r2", "lin_cat_equal"),
  ("msg_residual", "least_squares", "r1_r2", "cat_lin"),
]


def full_product():
  """Every loss x penalty x network; phi goes round, so as to meet them all."""
  presets = [preset for preset, *_ in COVERING_SET]
  sets = (presets, losses.ADVERSARIAL_LOSSES, penalties.PENALTIES)
  for places in itertools.product(*(list(enumerate(s)) for s in sets)):
    numbers, names = zip(*places, strict=True)
    yield *names, COMBINE_FUNCTIONS[sum(numbers) % len(COMBINE_FUNCTIONS)]


@pytest.mark.parametrize(
  ("preset", "loss", "penalty", "combine"),
  [
    *COVERING_SET,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in full_product()),
  ],
)
def test_combinations_train(preset, loss, penalty, combine):
  config = small_config(preset, loss=loss, penalty=penalty, combine=combine)
  run = Run(config).train(2)
  start, state = run.start, jax.device_get(run.state)
  for x in jax.tree.leaves((state, jax.device_get(run.metrics))):
    assert np.isfinite(x).all()
  # Constants of the score may rest: relativistic losses do not depend on them.
  for params in (start.d_params, state.d_params):
    params["score"].pop("bias")
    if config.model == "residual":  # nothing but sums after its last block
      params["block_4x4"]["blocks"][f"block_{BLOCKS - 1}"]["conv_2"].pop("bias")
    elif config.loss.startswith("relativistic"):
      # So are biases where leaky ReLU has one sign in all examples.
      for layer in params["block_4x4"].values():
        layer.pop("bias", None)
  for name in ("g_params", "d_params"):
    moved = jax.tree.map(
      lambda a, b: np.any(a != b), getattr(state, name), getattr(start, name)
    )
    assert all(jax.tree.leaves(moved)), name


def test_power_iteration_is_pytorchs():
  """v = normalize(W' u), then u = normalize(W v)."""
  config = small_config("msg_gan_v1")
  network = networks.make_discriminator(config)
  params, state = random_arrays(network)
  before = np.asarray(state["block_8x8"]["conv_1"]["u"])
  kernel = np.asarray(params["block_8x8"]["conv_1"]["kernel"])
  matrix = kernel.reshape(-1, len(before)).T
  v = matrix.T @ before / np.linalg.norm(matrix.T @ before)
  u = matrix @ v / np.linalg.norm(matrix @ v)
  after = jax.jit(network.power_iterate)(params, state)["block_8x8"]["conv_1"]
  np.testing.assert_allclose(after["v"], v, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(after["u"], u, rtol=1e-4, atol=1e-6)
