"""Gradient penalties of a critic over a whole pyramid (paper, section 3.2).

The penalties themselves know no configuration; `PENALTIES` says which terms a
configuration adds to D's loss, and `penalize` weighs and averages them.

How R1's and R2's gamma follows from the resolution R: g_s is the score's
derivative by the image at scale s, of s x s pixels, and c_s = s ||g_s|| how
much the score changes with that image, for changes of root mean square 1. An
image pooled from the full one passes g_s / 4^k to each full pixel, 2^k = R / s:
a squared norm of (s / R)^2 ||g_s||^2 = c_s^2 / R^2, the penalty of a network of
one scale. "pixels" adds the scales in this unit, and a gamma of such networks
keeps its meaning. "mean" averages ||g_s||^2 = (c_s / s)^2: the low scales
dominate. With the same c at all S scales the two are equal if

  gamma_mean = 12 S^2 gamma_pixels / R^2,

because the sum of 1 / s^2 over s = 4, 8, ... is 1 / 12.

While a network grows to R, D sees images of s x s pixels. Its authors' code
doubles them to R x R, and D averages them again. The gradient with respect to
the doubled image has the norm share * ||g_s||, share = s / R, as above. So the
penalty does not jump where a fade begins: `of_full_size`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from msggan_jax.algorithm import schedules
from msggan_jax.algorithm.accumulation import in_parts
from msggan_jax.kernels import upsample_like
from msggan_jax.kernels.precision import matmul
from msggan_jax.models.pyramid import Pyramid, connected_scales
from msggan_jax.runtime import sharding

Critic = Callable[[Pyramid], jax.Array]  # pyramid -> logits, (B,)


def gradient_penalty(
  critic: Critic,
  reals: Pyramid,
  fakes: Pyramid,
  epsilon: jax.Array,
  one_sided: bool = False,
) -> jax.Array:
  """Penalize gradient norms away from 1 at each scale (paper, section 3.2).

  "The average of the penalties over each input": the interpolated images of
  the scales are independent inputs, one epsilon per example is shared by all
  scales, and every scale has its own norm.

  `epsilon`, (B,), uniform in [0, 1], is the share of the real image. Returns
  (||g|| - 1)^2, `one_sided` max(0, ||g|| - 1)^2, (S, B), not yet averaged.
  """
  epsilon = epsilon[:, None, None, None]
  interpolated = jax.tree.map(
    lambda real, fake: epsilon * real + (1 - epsilon) * fake, reals, fakes
  )
  gradients = _input_gradients(critic, interpolated)
  excess = _safe_sqrt(_squared_norms(gradients)) - 1
  return jnp.square(jax.nn.relu(excess) if one_sided else excess)


def r1_penalty(
  critic: Critic, reals: Pyramid, derivatives: str = "total"
) -> jax.Array:
  """Return squared gradient norms at each scale (Mescheder et al. 2018).

  On fakes, with partial derivatives, this is R2.

  "partial": the scales are independent inputs. "total": the lower scales are
  pooled from the higher ones, and the derivative passes through the pooling, as
  in the official code. (S, B), without gamma / 2, not yet averaged.
  """
  if derivatives not in ("total", "partial"):
    raise ValueError(
      f"penalty_derivatives is {derivatives!r}; choose total or partial"
    )
  gradients = _input_gradients(critic, reals)
  if derivatives == "total":
    gradients = _through_pooling(gradients)
  return _squared_norms(gradients)


class Images(NamedTuple):
  """The images of one step that penalties are taken at."""

  reals: Pyramid
  fakes: Pyramid
  epsilon: jax.Array  # (B,), uniform in [0, 1]


def of_full_size(
  critic: Callable[..., jax.Array], images: Images, share: float
) -> tuple[Callable[..., jax.Array], Images]:
  """Return a critic and images whose gradients are those by doubled images.

  `share` is the images' resolution over that of the whole run, below 1 while a
  network grows. The images become 1 / share as large and the critic divides
  them again, which multiplies its gradients by share.
  """
  if share == 1:
    return critic, images

  def times(factor, pyramid):
    return jax.tree.map(lambda x: factor * x, pyramid)

  larger = images._replace(
    reals=times(1 / share, images.reals), fakes=times(1 / share, images.fakes)
  )
  return lambda x, *given: critic(times(share, x), *given), larger


class Term(NamedTuple):
  """A penalty term of D's loss."""

  metric: str  # its name in `stats.jsonl`, before /<resolution>
  # By the configuration: (S, B), not yet averaged.
  values: Callable[[Critic, Images, ConfigDict], jax.Array]
  # By the configuration and the values of this step.
  weight: Callable[[ConfigDict, schedules.Now], float | jax.Array]


def _around_one(one_sided: bool) -> Term:
  return Term(
    "gradient_penalty",
    lambda critic, images, _: gradient_penalty(critic, *images, one_sided),
    lambda config, _: config.gp_weight,
  )


_R1 = Term(
  "r1_penalty",
  lambda critic, images, config: r1_penalty(
    critic, images.reals, config.penalty_derivatives
  ),
  lambda _, now: 0.5 * now.r1_gamma,
)
_R2 = Term(
  "r2_penalty",
  # Fakes are not pooled from each other: always partial.
  lambda critic, images, _: r1_penalty(critic, images.fakes, "partial"),
  lambda _, now: 0.5 * now.r2_gamma,
)

# `config.penalty` -> the terms of D's loss.
PENALTIES = {
  "none": (),
  "gradient_penalty": (_around_one(one_sided=False),),
  "one_sided": (_around_one(one_sided=True),),
  "r1": (_R1,),
  "r2": (_R2,),
  "r1_r2": (_R1, _R2),
}


# `config.penalty_scales` -> a scale's weight, from its share of the resolution
# and the number of scales.
SCALE_WEIGHTS = {
  "mean": lambda share, num_scales: 1 / num_scales,
  "sum": lambda share, num_scales: 1.0,
  "pixels": lambda share, num_scales: share**2,
  "sides": lambda share, num_scales: share,
}


def scale_weights(
  chosen: str | Sequence[float], scales: Sequence[int]
) -> list[float]:
  """Return the weight of each scale's penalty, low to high."""
  if isinstance(chosen, str):
    rule = SCALE_WEIGHTS[chosen]
    return [rule(scale / scales[-1], len(scales)) for scale in scales]
  if len(chosen) != len(scales):
    raise ValueError(
      f"config.penalty_scales has {len(chosen)} weights; give one for each of "
      f"the scales {', '.join(map(str, scales))}"
    )
  return list(chosen)


class Penalty(NamedTuple):
  """The penalty of one step."""

  loss: jax.Array  # weighted, over all scales and the global batch
  means: dict[str, jax.Array]  # unweighted, by `<metric>/<resolution>`
  count: jax.Array  # 1 if this step computed the penalty, else 0


def penalize(
  config: ConfigDict,
  now: schedules.Now,
  critic: Callable[[Pyramid, Any], jax.Array],
  images: Images,
  given: Any,
) -> Penalty:
  """Compute the penalty of a step.

  A lazy one, of every k-th step, is k times as strong (StyleGAN2, section 3.1).
  `critic` is (pyramid, given) -> logits, (B,); `images` and `given`, the labels
  and transformations, are this device's.
  """
  terms, interval = PENALTIES[config.penalty], config.penalty_interval
  scales = connected_scales(config.resolution, config.connected_scales)

  def values(images, given):
    def of_given(pyramid):
      return critic(pyramid, given)

    return [term.values(of_given, images, config) for term in terms]

  # (S, B) -> (): the mean or weighted sum of the scales, averaged over the
  # global batch.
  def over_scales(value):
    if config.penalty_scales == "mean":
      return sharding.global_mean(value)
    weights = scale_weights(config.penalty_scales, scales)
    weights = jnp.asarray(weights, value.dtype)
    return sharding.global_mean(matmul(weights, value))

  loss = 0.0
  means = {}
  compute = in_parts(values, config.micro_batch_size, out_axis=1)
  for term, value in zip(terms, compute(images, given), strict=True):
    loss += interval * term.weight(config, now) * over_scales(value)
    for resolution, scale_value in zip(scales, value, strict=True):
      means[f"{term.metric}/{resolution}"] = sharding.global_mean(scale_value)
  return Penalty(loss, means, jnp.int32(1))


def skip(*arguments: Any) -> Penalty:
  """Return zeros in place of `penalize(*arguments)`."""
  shapes = jax.eval_shape(lambda: penalize(*arguments))
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _input_gradients(critic: Critic, pyramid: Pyramid) -> Pyramid:
  return jax.grad(lambda images: critic(images).sum())(pyramid)


def _through_pooling(gradients: Pyramid) -> Pyramid:
  # h_4 = g_4, h_s = g_s + upsample(h_{s/2}) / 4: the chain rule through the
  # 2x2 means of the pyramid; 1 / f^2 where scales in between are not connected.
  totals = [gradients[0]]
  for g in gradients[1:]:
    factor = g.shape[1] // totals[-1].shape[1]
    total = upsample_like(totals[-1], g)
    pooled = jax.tree.map(lambda x, area=factor**2: x / area, total)
    totals.append(jax.tree.map(jnp.add, g, pooled))
  return tuple(totals)


def _squared_norms(pyramid: Pyramid) -> jax.Array:
  gradients = jax.tree.leaves(pyramid)
  return jnp.stack([jnp.sum(jnp.square(g), axis=(1, 2, 3)) for g in gradients])


def _safe_sqrt(x: jax.Array) -> jax.Array:
  # The square root's derivative at 0 is infinite; a scale that the critic
  # ignores has norm 0 and must pass a gradient of 0, not NaN.
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
