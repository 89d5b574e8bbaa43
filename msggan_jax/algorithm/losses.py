"""Adversarial losses on logits; penalties on a critic and a pyramid.

Nothing here knows of networks, configurations or devices. Penalties are per
scale and example: the caller averages them once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from msggan_jax.models.pyramid import Pyramid, upsample

Critic = Callable[[Pyramid], jax.Array]  # pyramid -> logits, (B,)
Mean = Callable[[jax.Array], jax.Array]  # (B,) -> ()

softplus = jax.nn.softplus
relu = jax.nn.relu


class AdversarialLoss(NamedTuple):
  """The two losses, each of (real_logits, fake_logits), both (B,)."""

  d_loss: Callable[[jax.Array, jax.Array], jax.Array]
  g_loss: Callable[[jax.Array, jax.Array], jax.Array]


def adversarial(
  name: str, mean: Mean = jnp.mean, drift_weight: float = 0.001
) -> AdversarialLoss:
  """Return a pair of adversarial losses by name.

  Args:
    name: A key of `ADVERSARIAL_LOSSES`.
    mean: The mean over the global batch, (B,) -> (); over several devices it
      must cross them, because the relativistic losses are not sums of
      per-example terms.
    drift_weight: Weight of E r^2 in "wasserstein" (ProGAN, appendix A.1).

  Returns:
    d_loss and g_loss: scalars, to be minimised.

  Raises:
    ValueError: If there is no loss of that name.
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

PENALTIES = ("none", "gradient_penalty", "one_sided", "r1", "r2", "r1_r2")


def gradient_penalty(
  critic: Critic,
  reals: Pyramid,
  fakes: Pyramid,
  epsilon: jax.Array,
  one_sided: bool = False,
) -> jax.Array:
  """Penalise gradient norms away from 1, at each scale (paper, section 3.2).

  "The average of the penalties over each input": the interpolated images of
  the scales are independent inputs, one epsilon per example is shared by all
  of them, and every scale has a norm of its own.

  Args:
    critic: Pyramid -> logits, (B,).
    reals: Images per scale, low to high, each (B, H, W, C).
    fakes: Same shapes.
    epsilon: (B,), uniform in [0, 1]; the share of the real image.
    one_sided: Whether norms below 1 go free.

  Returns:
    (S, B): (||g|| - 1)^2, or max(0, ||g|| - 1)^2, not yet averaged.
  """
  epsilon = epsilon[:, None, None, None]
  interpolated = tuple(
    epsilon * real + (1 - epsilon) * fake
    for real, fake in zip(reals, fakes, strict=True)
  )
  gradients = _input_gradients(critic, interpolated)
  excess = _safe_sqrt(_squared_norms(gradients)) - 1
  return jnp.square(relu(excess) if one_sided else excess)


def r1_penalty(
  critic: Critic, reals: Pyramid, derivatives: str = "total"
) -> jax.Array:
  """Return squared gradient norms at each scale (Mescheder et al. 2018).

  On fakes, with partial derivatives, this is R2.

  Args:
    critic: Pyramid -> logits, (B,).
    reals: Images per scale, low to high, each (B, H, W, C).
    derivatives: "partial": the scales are independent inputs. "total": a
      scale's image moves the lower ones, which are pooled from it, as the
      official code differentiates.

  Returns:
    (S, B) squared norms, without gamma / 2, not yet averaged.

  Raises:
    ValueError: If `derivatives` is neither.
  """
  if derivatives not in ("total", "partial"):
    raise ValueError(
      f"penalty_derivatives is {derivatives!r}; choose total or partial"
    )
  gradients = _input_gradients(critic, reals)
  if derivatives == "total":
    gradients = _through_pooling(gradients)
  return _squared_norms(gradients)


def _input_gradients(critic: Critic, pyramid: Pyramid) -> Pyramid:
  return jax.grad(lambda images: critic(images).sum())(pyramid)


def _through_pooling(gradients: Pyramid) -> Pyramid:
  # h_4 = g_4, h_s = g_s + upsample(h_{s/2}) / 4: the chain rule through the
  # 2x2 averages that make the pyramid; 1 / f^2 where scales are left out.
  totals = [gradients[0]]
  for g in gradients[1:]:
    factor = g.shape[1] // totals[-1].shape[1]
    totals.append(g + upsample(totals[-1], factor) / factor**2)
  return tuple(totals)


def _squared_norms(pyramid: Pyramid) -> jax.Array:
  return jnp.stack([jnp.sum(jnp.square(g), axis=(1, 2, 3)) for g in pyramid])


def _safe_sqrt(x: jax.Array) -> jax.Array:
  # The square root's derivative at 0 is infinite; a scale that the critic
  # ignores has norm 0 and must pass a gradient of 0, not NaN.
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
