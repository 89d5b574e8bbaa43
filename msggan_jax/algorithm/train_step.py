"""The algorithm: one D update, one G update, EMA (paper, section 3)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from msggan_jax.algorithm import finite, losses
from msggan_jax.algorithm.accumulation import in_parts
from msggan_jax.algorithm.train_state import TrainState, ema_decay
from msggan_jax.models.layers import normalize_latents
from msggan_jax.models.networks import Network
from msggan_jax.models.pyramid import (
  Pyramid,
  connected_scales,
  make_pyramid,
  to_float,
)
from msggan_jax.runtime import sharding

# More steps than runs have, so that no step draws another one's numbers again.
_ROLLBACK_STRIDE = 1_000_000_007

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
  config: ConfigDict,
  generator: Network,
  discriminator: Network,
  optimizer: optax.GradientTransformation,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Return the step as one device sees it, for `sharding.shard_step`.

  Args:
    config: The configuration.
    generator: z and label -> pyramid.
    discriminator: Pyramid and label -> logits.
    optimizer: The optimizer of both networks.

  Returns:
    (state, batch) -> (state, metrics); batch: this device's reals, "image",
    uint8, (device_batch_size, resolution, resolution, channels), and "label",
    integers, (device_batch_size,). Metrics are means over the global batch;
    `<penalty>/<resolution>` is zero at steps that a lazy penalty leaves out.
  """
  scales = connected_scales(config)
  adversarial = losses.adversarial(
    config.loss, mean=sharding.global_mean, drift_weight=config.drift_weight
  )
  penalty = make_penalty(config)
  beta = ema_decay(config)
  part_size = config.micro_batch_size

  def train_step(state: TrainState, batch: Batch):
    stream = state.step + _ROLLBACK_STRIDE * state.rollbacks  # it may wrap
    key = jax.random.fold_in(jax.random.key(config.seed), stream)
    d_key, g_key, epsilon_key, mirror_key = jax.random.split(key, 4)
    size = len(batch["image"])

    reals = to_float(batch["image"])
    if config.mirror:
      reals = random_mirror(mirror_key, reals)
    reals = make_pyramid(reals, scales)
    # Fakes are of the reals' classes: so these are as frequent as in the data,
    # and interpolated images have a label too.
    labels = batch["label"] if config.num_classes else None

    # Spectral norm moves u and v once per update of their network; all that
    # follows in this step uses them as constants.
    g_state = generator.power_iterate(state.g_params, state.g_state)
    d_state = discriminator.power_iterate(state.d_params, state.d_state)

    def generate(key: jax.Array, g_state):
      """Return fakes, the map from their cotangent to G's gradient, G's state.

      The state's average of w moves with every call.
      """
      z_key, noise_key = jax.random.split(key)
      z = draw_latents(z_key, size, config)
      noise = sharding.example_keys(noise_key, size)

      def of_params(g_params):
        g_params = sharding.vary(g_params)

        def part(z, labels, noise):
          pyramid, new_state = generator.apply_and_update(
            *(g_params, g_state, z, labels),
            noise=noise,
            batch_mean=sharding.batch_mean,
          )
          return pyramid, jax.tree.map(jnp.subtract, new_state, g_state)

        pyramid, moves = in_parts(part, part_size, z, labels, noise)
        return pyramid, jax.tree.map(jnp.add, g_state, moves)

      return jax.vjp(of_params, state.g_params, has_aux=True)

    def critic_with(d_params):
      return lambda pyramid, labels: discriminator.apply(
        *(d_params, d_state, pyramid, labels), batch_mean=sharding.batch_mean
      )

    def score(critic, pyramid: Pyramid) -> jax.Array:
      def part(*batch):
        return critic(*batch), ()

      return in_parts(part, part_size, pyramid, labels)[0]

    fakes, fakes_vjp, g_state = generate(d_key, g_state)
    epsilon = jax.vmap(jax.random.uniform)(
      sharding.example_keys(epsilon_key, size)
    )

    def d_loss(d_params):
      critic = critic_with(sharding.vary(d_params))
      real_logits, fake_logits = score(critic, reals), score(critic, fakes)
      loss = adversarial.d_loss(real_logits, fake_logits)
      weighted, per_scale = penalty(
        state.step, critic, reals, fakes, epsilon, labels
      )
      return loss + weighted, {
        "d_loss": loss,
        "real_logits": sharding.global_mean(real_logits),
        "fake_logits": sharding.global_mean(fake_logits),
        **per_scale,
      }

    d_grads, metrics = jax.grad(d_loss, has_aux=True)(state.d_params)
    d_params, d_opt_state = _update(
      optimizer, d_grads, state.d_opt_state, state.d_params
    )

    if config.g_step_latents == "fresh":
      fakes, fakes_vjp, g_state = generate(g_key, g_state)

    def g_loss(fakes: Pyramid):
      # D has just been updated, so the relativistic losses score the reals
      # again; the other losses do not use them and XLA drops the work.
      critic = critic_with(sharding.vary(d_params))
      return adversarial.g_loss(score(critic, reals), score(critic, fakes))

    loss, cotangent = jax.value_and_grad(g_loss)(fakes)
    (g_grads,) = fakes_vjp(cotangent)
    g_params, g_opt_state = _update(
      optimizer, g_grads, state.g_opt_state, state.g_params
    )

    metrics |= {
      "g_loss": loss,
      "d_grad_norm": optax.tree.norm(d_grads),
      "g_grad_norm": optax.tree.norm(g_grads),
      finite.FIRST_BAD: finite.first_not_finite(
        state.d_params, state.g_params, d_grads, g_grads
      ),
    }
    state = TrainState(
      step=state.step + 1,
      rollbacks=state.rollbacks,
      g_params=g_params,
      d_params=d_params,
      ema_params=optax.incremental_update(g_params, state.ema_params, 1 - beta),
      g_state=g_state,
      d_state=d_state,
      ema_state=g_state,
      g_opt_state=g_opt_state,
      d_opt_state=d_opt_state,
    )
    return state, metrics

  return train_step


def make_penalty(config: ConfigDict) -> Callable:
  """Return D's penalty term as a function of the critic and the images.

  Args:
    config: `penalty`, its weights and `penalty_interval`.

  Returns:
    (step, critic, reals, fakes, epsilon, labels) -> (term, metrics): the
    weighted term of D's loss, averaged over scales and the global batch (paper,
    section 3.2), and its unweighted mean per scale, `<penalty>/<resolution>`.
    The critic maps a pyramid and its labels to logits.
  """
  scales = connected_scales(config)

  def values(critic, reals, fakes, epsilon, labels) -> dict[str, jax.Array]:
    """Return name -> per-scale, per-example values, (S, B)."""
    critic = functools.partial(critic, labels=labels)
    if config.penalty in ("gradient_penalty", "one_sided"):
      one_sided = config.penalty == "one_sided"
      return {
        "gradient_penalty": losses.gradient_penalty(
          critic, reals, fakes, epsilon, one_sided
        )
      }
    penalties = {}
    if config.penalty in ("r1", "r1_r2"):
      penalties["r1_penalty"] = losses.r1_penalty(
        critic, reals, config.penalty_derivatives
      )
    if config.penalty in ("r2", "r1_r2"):
      # Fakes are not pooled from each other: always partial.
      penalties["r2_penalty"] = losses.r1_penalty(critic, fakes, "partial")
    return penalties

  weights = {
    "gradient_penalty": config.gp_weight,
    "r1_penalty": 0.5 * config.r1_gamma,
    "r2_penalty": 0.5 * config.r2_gamma,
  }

  def penalty(step, critic, *batch):
    def compute() -> dict[str, jax.Array]:
      def part(*batch):
        return values(critic, *batch), ()

      return in_parts(part, config.micro_batch_size, *batch, out_axis=1)[0]

    if config.penalty_interval == 1:
      penalties = compute()
    else:
      # Lazy (StyleGAN2, section 3.1): every k-th step, k times as strong.
      zeros = jax.tree.map(
        lambda x: sharding.vary(jnp.zeros(x.shape, x.dtype)),
        jax.eval_shape(compute),
      )
      penalties = jax.lax.cond(
        step % config.penalty_interval == 0, compute, lambda: zeros
      )
    term = 0.0
    metrics = {}
    for name, value in penalties.items():
      term += (
        config.penalty_interval * weights[name] * sharding.global_mean(value)
      )
      for resolution, scale_value in zip(scales, value, strict=True):
        metrics[f"{name}/{resolution}"] = sharding.global_mean(scale_value)
    return term, metrics

  return penalty


def draw_latents(key: jax.Array, size: int, config: ConfigDict) -> jax.Array:
  """Draw this device's latents, (size, latent_size)."""
  keys = sharding.example_keys(key, size)
  z = jax.vmap(lambda k: jax.random.normal(k, (config.latent_size,)))(keys)
  return normalize_latents(z) if config.normalize_latents else z


def random_mirror(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirror each image, (B, H, W, C), left to right with probability 1/2."""
  keys = sharding.example_keys(key, images.shape[0])
  mirrored = jax.vmap(jax.random.bernoulli)(keys)[:, None, None, None]
  return jnp.where(mirrored, images[:, :, ::-1], images)


def _update(optimizer, grads, opt_state, params):
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return optax.apply_updates(params, updates), opt_state
