"""Adversarial losses on logits; only their `mean` crosses devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from msggan_jax.algorithm import penalties

# Public names of this module, too.
gradient_penalty = penalties.gradient_penalty
r1_penalty = penalties.r1_penalty

Mean = Callable[[jax.Array], jax.Array]  # (B,) -> ()

softplus = jax.nn.softplus
relu = jax.nn.relu


class AdversarialLoss(NamedTuple):
  """Of (real_logits, fake_logits), both (B,), to be minimized."""

  d_loss: Callable[[jax.Array, jax.Array], jax.Array]
  g_loss: Callable[[jax.Array, jax.Array], jax.Array]


def adversarial(
  name: str, mean: Mean = jnp.mean, drift_weight: float = 0.001
) -> AdversarialLoss:
  """Return a pair of `ADVERSARIAL_LOSSES` by name.

  `mean` is over the global batch. It must cross devices: the relativistic
  losses are not sums of per-example terms. `drift_weight` is that of E r^2 in
  "wasserstein" (ProGAN, appendix A.1).
  """
  if name not in ADVERSARIAL_LOSSES:
    raise ValueError(
      f"loss is {name!r}; choose one of {', '.join(ADVERSARIAL_LOSSES)}"
    )
  if name == "wasserstein":
    return wasserstein(mean, drift_weight)
  return ADVERSARIAL_LOSSES[name](mean)


def wasserstein(mean: Mean, drift_weight: float = 0.001) -> AdversarialLoss:
  """WGAN with ProGAN's drift term (Arjovsky et al. 2017)."""
  return AdversarialLoss(
    d_loss=lambda r, f: mean(f) - mean(r) + drift_weight * mean(r**2),
    g_loss=lambda r, f: -mean(f),
  )


def logistic(mean: Mean) -> AdversarialLoss:
  """Non-saturating logistic loss (Goodfellow et al. 2014)."""
  return AdversarialLoss(
    d_loss=lambda r, f: mean(softplus(f)) + mean(softplus(-r)),
    g_loss=lambda r, f: mean(softplus(-f)),
  )


def hinge(mean: Mean) -> AdversarialLoss:
  """Hinge loss (Miyato et al. 2018)."""
  return AdversarialLoss(
    d_loss=lambda r, f: mean(relu(1 - r)) + mean(relu(1 + f)),
    g_loss=lambda r, f: -mean(f),
  )


def relativistic_hinge(mean: Mean) -> AdversarialLoss:
  """Relativistic average hinge loss (Jolicoeur-Martineau 2018)."""

  def d_loss(r, f):
    return mean(relu(1 - (r - mean(f)))) + mean(relu(1 + (f - mean(r))))

  def g_loss(r, f):
    return mean(relu(1 + (r - mean(f)))) + mean(relu(1 - (f - mean(r))))

  return AdversarialLoss(d_loss, g_loss)


def least_squares(mean: Mean) -> AdversarialLoss:
  """Least-squares loss (Mao et al. 2017)."""
  return AdversarialLoss(
    d_loss=lambda r, f: 0.5 * mean((r - 1) ** 2) + 0.5 * mean(f**2),
    g_loss=lambda r, f: 0.5 * mean((f - 1) ** 2),
  )


def relativistic_pairing(mean: Mean) -> AdversarialLoss:
  """Relativistic pairing loss (Huang et al. 2024, R3GAN)."""
  return AdversarialLoss(
    d_loss=lambda r, f: mean(softplus(-(r - f))),
    g_loss=lambda r, f: mean(softplus(-(f - r))),
  )


ADVERSARIAL_LOSSES = {
  "wasserstein": wasserstein,
  "logistic": logistic,
  "hinge": hinge,
  "relativistic_hinge": relativistic_hinge,
  "least_squares": least_squares,
  "relativistic_pairing": relativistic_pairing,
}
