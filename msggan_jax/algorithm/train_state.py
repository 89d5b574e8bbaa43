"""The training state, arrays only: created, optimized, averaged, checked."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from msggan_jax.algorithm import augment, averaging
from msggan_jax.models.networks import Tree
from msggan_jax.models.pyramid import resolutions_up_to


@struct.dataclass
class TrainState:
  """Everything that a run carries from step to step."""

  step: jax.Array  # (), int32: steps done
  rollbacks: jax.Array  # (), int32: each one changes the random numbers
  g_params: Any
  d_params: Any
  ema_params: Any  # moving average of g_params, used for samples
  g_state: Any  # state that is not learned, see `networks.Network`
  d_state: Any
  ema_state: Any  # a copy of g_state, for ema_params
  g_opt_state: optax.OptState
  d_opt_state: optax.OptState
  # Parts of a run's options; () if they are not in use.
  augment_state: Any = ()  # the strength of an adaptive augmentation
  averages: Any = ()  # power-function averages of g_params


def assemble(
  config: ConfigDict,
  g: tuple[Any, Any],
  d: tuple[Any, Any],
  optimizer: optax.GradientTransformationExtraArgs,
  ema: tuple[Any, Any] | None = None,
) -> TrainState:
  """Make the state at step 0 from (params, state) of each network.

  Without those of the EMA generator, it is a copy of the generator.
  """
  ema_params, ema_state = ema or jax.tree.map(jnp.copy, g)
  widths = averaging.WIDTHS if config.ema_averages else ()
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    rollbacks=jnp.zeros((), jnp.int32),
    g_params=g[0],
    d_params=d[0],
    ema_params=ema_params,
    g_state=g[1],
    d_state=d[1],
    ema_state=ema_state,
    g_opt_state=optimizer.init(g[0]),
    d_opt_state=optimizer.init(d[0]),
    augment_state=augment.initial_state(config),
    averages=tuple(jax.tree.map(jnp.copy, g[0]) for _ in widths),
  )


def make_optimizer(config: ConfigDict) -> optax.GradientTransformationExtraArgs:
  """Return the optimizer of both networks (paper, section 4).

  Its `update` takes `now`, the values at the step (`schedules.at`). Its state
  has the same form with and without schedules.
  """

  def rule(now: Any) -> optax.GradientTransformation:
    rate, beta2 = now.learning_rate, now.beta2
    # RMSprop as PyTorch and the paper mean it: decay beta2 (0.99), epsilon
    # outside the root.
    if config.optimizer == "rmsprop":
      return optax.rmsprop(rate, decay=beta2, eps=1e-8, eps_in_sqrt=False)
    return optax.adam(rate, b1=config.beta1, b2=beta2, eps=1e-8)

  def update(grads, state, params=None, *, now):
    return rule(now).update(grads, state, params)

  return optax.GradientTransformationExtraArgs(rule(config).init, update)


def check_frozen(config: ConfigDict) -> None:
  """Raise ValueError if D has fewer than `freeze_d` blocks."""
  blocks = len(resolutions_up_to(config.resolution))
  if config.freeze_d > blocks:
    raise ValueError(
      f"config.freeze_d is {config.freeze_d}, but D at {config.resolution} "
      f"pixels has {blocks} blocks; choose 0 to {blocks}"
    )


def frozen_modules(config: Any) -> tuple[str, ...]:
  """Return the frozen modules of D, from the image side."""
  first = resolutions_up_to(config.resolution)[::-1][: config.freeze_d]
  if not first:
    return ()
  return (
    f"from_rgb_{config.resolution}x{config.resolution}",
    *(f"block_{r}x{r}" for r in first),
  )


def freeze(config: Any, d_params: Tree) -> Tree:
  """Cut the derivatives of the frozen modules (FreezeD, Mo et al. 2020).

  Their gradients are exactly 0, and so are the updates of RMSprop and Adam,
  whose averages start at 0.
  """
  frozen = frozen_modules(config)
  return {
    name: jax.lax.stop_gradient(module) if name in frozen else module
    for name, module in d_params.items()
  }


def first_not_finite(*trees: Any) -> jax.Array:
  """Return the place of the first tensor with NaN or Inf in `tensor_names`.

  (), int32, without a host sync; -1 if all are finite.
  """
  # Rows first, then all together: on GPUs every tensor's own result would take
  # two kernels.
  rows = [
    jnp.abs(x).max(axis=-1).ravel() if x.ndim > 1 else jnp.atleast_1d(x)
    for x in jax.tree.leaves(trees)
  ]
  rows = [x.astype(jnp.result_type(float)) for x in rows]
  bad = ~jnp.isfinite(jnp.concatenate(rows))
  first = jnp.argmax(bad)
  ends = np.cumsum([x.size for x in rows])
  return jnp.where(bad[first], (ends <= first).sum(), -1).astype(jnp.int32)


def tensor_names(trees: Mapping[str, Any]) -> list[str]:
  """Return the tensors' paths, such as d_params/block_8x8/conv_1/kernel."""
  return [
    f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
    for name, tree in trees.items()
    for path, _ in jax.tree.leaves_with_path(tree)
  ]


def step_tensor_names(d_params: Any, g_params: Any) -> list[str]:
  """Return the names behind `StepMetrics.first_bad`."""
  params = {"d_params": d_params, "g_params": g_params}
  return tensor_names(params | {"d_grads": d_params, "g_grads": g_params})
