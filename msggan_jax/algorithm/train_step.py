"""The algorithm: one D update, one G update, EMA (paper, section 3)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from msggan_jax.algorithm import (
  augment,
  averaging,
  losses,
  penalties,
  randomness,
  schedules,
)
from msggan_jax.algorithm.accumulation import in_parts
from msggan_jax.algorithm.train_state import (
  TrainState,
  first_not_finite,
  freeze,
)
from msggan_jax.algorithm.transformations import Transformation, transform
from msggan_jax.kernels import downsample, like
from msggan_jax.models.networks import Network, Tree
from msggan_jax.models.pyramid import (
  Pyramid,
  connected_scales,
  fade,
  make_pyramid,
  to_float,
)
from msggan_jax.runtime import sharding
from msggan_jax.runtime.sharding import global_mean

Batch = dict[str, jax.Array]


@struct.dataclass
class StepMetrics:
  """The numbers that a step reports."""

  values: dict[str, jax.Array]  # means over the global batch; 0: not computed
  counts: dict[str, jax.Array]  # 1 if this step computed the value, else 0
  # (), int32: the first tensor with NaN or Inf, an index into
  # `step_tensor_names`; -1: none.
  first_bad: jax.Array


class Fakes(NamedTuple):
  """G's images of one draw of latents, and the way back to G."""

  pyramid: Pyramid
  g_gradient: Callable[[Pyramid], tuple[Tree]]  # VJP: of the images' cotangent
  g_state: Tree  # after the call, which moves w's average


class Given(NamedTuple):
  """The labels and the transformations of D's images, per example."""

  labels: jax.Array | None  # (B,); None: unconditional
  # The augmentation. Part of the critic, so penalties differentiate through it.
  transformation: Transformation | None = None


class TrainStep:
  """(state, batch) -> (state, metrics), for `sharding.shard_step`.

  It sees one device's reals: "image", as `to_float` has them,
  (device_batch_size, H, W, channels), and "label", integers,
  (device_batch_size,).
  """

  def __init__(
    self,
    config: ConfigDict,
    generator: Network,
    discriminator: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    share: float = 1.0,
  ):
    """Keep the parts; `share` is that of `penalties.of_full_size`."""
    self._config = config
    self._share = share
    self._generator = generator
    self._discriminator = discriminator
    self._optimizer = optimizer
    self._adversarial = losses.adversarial(
      config.loss, mean=global_mean, drift_weight=config.drift_weight
    )

  def __call__(
    self, before: TrainState, batch: Batch
  ) -> tuple[TrainState, StepMetrics]:
    """Update D, then G, then the averages of G."""
    config, size = self._config, len(batch["image"])
    now = schedules.at(config, before.step)
    keys = randomness.step_keys(config.seed, before)
    reals, labels = self._make_reals(before, keys.mirror, batch)
    # Move spectral norm's u and v; the rest of the step holds them fixed.
    state = before.replace(
      g_state=self._generator.power_iterate(before.g_params, before.g_state),
      d_state=self._discriminator.power_iterate(
        before.d_params, before.d_state
      ),
    )

    fakes = self._make_fakes(state, keys.d_fakes, size, labels)
    reals = tuple(map(like, reals, fakes.pyramid))
    epsilon = randomness.draw_epsilon(keys.epsilon, size)
    images = penalties.Images(reals, fakes.pyramid, epsilon)
    strength = now.augment_strength
    if augment.is_adaptive(config):
      strength = before.augment_state.strength
    given, given_in_g = (
      Given(labels, augment.draw(config, key, size, strength))
      for key in (keys.d_augment, keys.g_augment)
    )
    state, d_grads, d_values, penalty = self._update_d(
      state, now, images, given
    )
    # By D as it scored the reals: with the same u and v, before its update.
    scored = before.replace(d_state=state.d_state)
    augment_state, a_values = self._adapt(
      scored, strength, d_values, keys.held_out, batch
    )

    if config.g_step_latents == "fresh":
      state = state.replace(g_state=fakes.g_state)
      fakes = self._make_fakes(state, keys.g_fakes, size, labels)
    state, g_grads, g_values = self._update_g(
      state, now, reals, fakes, given_in_g
    )

    ema_params = averaging.move(
      state.ema_params, state.g_params, averaging.ema_rate(config, now)
    )
    averages = averaging.move_power_averages(
      state.averages, state.g_params, state.step + 1
    )
    state = state.replace(
      step=state.step + 1,
      g_state=fakes.g_state,
      ema_state=fakes.g_state,
      ema_params=ema_params,
      averages=averages,
      augment_state=augment_state,
    )
    values = d_values | g_values | a_values | now.moving()
    counts = dict.fromkeys(values, jnp.int32(1))
    metrics = StepMetrics(
      values=values | penalty.means,
      counts=counts | dict.fromkeys(penalty.means, penalty.count),
      first_bad=first_not_finite(
        before.d_params, before.g_params, d_grads, g_grads
      ),
    )
    return state, metrics

  def _make_reals(self, state: TrainState, key: jax.Array, batch: Batch):
    """Return the reals as D sees them, and their labels if conditional.

    Fakes get the reals' labels: so classes are as frequent as in the data, and
    interpolated images have a label, too.
    """
    config, images = self._config, batch["image"]
    if config.mirror:
      images = randomness.random_mirror(key, images)
    # As bytes, which are a quarter of the floats.
    images = to_float(self._generator.fit(images))
    labels = batch["label"] if config.num_classes else None
    scales = connected_scales(config.resolution, config.connected_scales)
    reals = make_pyramid(images, scales)
    if config.resolution > config.grow_from > 0:
      (image,) = reals
      reals = (fade(state.g_state["alpha"], image, downsample(image)),)
    return reals, labels

  def _update_d(self, state, now, images: penalties.Images, given: Given):
    def d_loss(d_params, penalize: Callable[..., penalties.Penalty]):
      d_params = freeze(self._config, d_params)
      critic = self._critic(d_params, state.d_state)
      real_logits = critic(images.reals, given)
      fake_logits = critic(images.fakes, given)
      loss = self._adversarial.d_loss(real_logits, fake_logits)
      of_full_size = penalties.of_full_size(critic, images, self._share)
      penalty = penalize(self._config, now, *of_full_size, given)
      values = {
        "d_loss": loss,
        "real_logits": global_mean(real_logits),
        "fake_logits": global_mean(fake_logits),
        **augment.statistics(self._config, real_logits),
      }
      return loss + penalty.loss, (values, penalty)

    def gradient(penalize):
      return jax.grad(d_loss, has_aux=True)(state.d_params, penalize)

    interval = self._config.penalty_interval
    if interval == 1:
      grads, (values, penalty) = gradient(penalties.penalize)
    else:
      # Lazy. A conditional around the penalty alone would also return its
      # intermediate values, as zeros where it is skipped.
      grads, (values, penalty) = jax.lax.cond(
        state.step % interval == 0,
        lambda: gradient(penalties.penalize),
        lambda: gradient(penalties.skip),
      )
    values["d_grad_norm"] = optax.tree.norm(grads)
    d_params, d_opt_state = self._update(
      now, grads, state.d_opt_state, state.d_params
    )
    state = state.replace(d_params=d_params, d_opt_state=d_opt_state)
    return state, grads, values, penalty

  def _update_g(self, state, now, reals: Pyramid, fakes: Fakes, given: Given):
    def g_loss(pyramid):
      # D has just been updated, so the relativistic losses score the reals
      # again; the other losses do not use them and XLA drops the work.
      critic = self._critic(state.d_params, state.d_state)
      return self._adversarial.g_loss(
        critic(reals, given), critic(pyramid, given)
      )

    loss, cotangent = jax.value_and_grad(g_loss)(fakes.pyramid)
    (grads,) = fakes.g_gradient(cotangent)
    g_params, g_opt_state = self._update(
      now, grads, state.g_opt_state, state.g_params
    )
    state = state.replace(g_params=g_params, g_opt_state=g_opt_state)
    values = {"g_loss": loss, "g_grad_norm": optax.tree.norm(grads)}
    return state, grads, values

  def _adapt(self, before, strength, d_values, key, batch: Batch):
    config, state = self._config, before.augment_state
    if not augment.is_adaptive(config):
      return state, {}
    held_out = None
    if augment.needs_holdout(config):  # augmented as the reals are
      mirror_key, draw_key = jax.random.split(key)
      images = {name: batch[f"holdout_{name}"] for name in ("image", "label")}
      reals, labels = self._make_reals(before, mirror_key, images)
      size = len(images["image"])
      given = Given(labels, augment.draw(config, draw_key, size, strength))
      critic = self._critic(before.d_params, before.d_state)
      held_out = global_mean(critic(reals, given))
    signal = augment.overfitting(d_values, held_out)
    state = augment.adapt(config, state, signal)
    return state, {
      "augment_strength": state.strength,
      "overfitting": augment.rate(state),
    }

  def _make_fakes(
    self, state: TrainState, key: jax.Array, size: int, labels
  ) -> Fakes:
    config = self._config
    z, noise = randomness.draw_inputs(
      key, size, config.latent_size, normalize=config.normalize_latents
    )

    def generate(params):
      params = sharding.vary(params)

      def part(z, labels, noise):
        pyramid, new_state = self._generator.apply_and_update(
          params,
          state.g_state,
          z,
          labels,
          noise=noise,
          batch_mean=sharding.batch_mean,
        )
        # Parts average how far they move the state: w's average moves once.
        return pyramid, jax.tree.map(jnp.subtract, new_state, state.g_state)

      run = in_parts(part, config.micro_batch_size, has_means=True)
      pyramid, moves = run(z, labels, noise)
      return pyramid, jax.tree.map(jnp.add, state.g_state, moves)

    return Fakes(*jax.vjp(generate, state.g_params, has_aux=True))

  def _critic(self, params: Tree, state: Tree) -> Callable:
    """Return D as a function: (pyramid, `Given`) -> logits, (B,).

    Its arguments are this device's examples. However often it is called, the
    gradient of its parameters is summed over the devices once.
    """
    params = sharding.vary(params)

    def critic(pyramid: Pyramid, given: Given) -> jax.Array:
      return self._discriminator.apply(
        params,
        state,
        transform(pyramid, given.transformation),
        given.labels,
        batch_mean=sharding.batch_mean,
      )

    return in_parts(critic, self._config.micro_batch_size)

  def _update(self, now, grads, opt_state, params):
    updates, opt_state = self._optimizer.update(
      grads, opt_state, params, now=now
    )
    return optax.apply_updates(params, updates), opt_state
