"""The operations of the networks, and the one place that chooses their form.

docs/architecture.md has a table of the forms. A network is built with
`Kernels`, which decide the form of its arrays. All other operations follow the
type of their arguments.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from msggan_jax.kernels import by_platform, gpu, plain
from msggan_jax.kernels.tpu import operations as tpu
from msggan_jax.kernels.tpu.folded import Folded


@dataclasses.dataclass(frozen=True)
class Kernels:
  """The operations that decide the form of a network's arrays.

  Attributes:
    convolve: (x, kernel, bias, products, before_window) -> y; `before_window`
      says that a 3x3 kernel reads y next.
    upsample_convolve: (x, kernel, bias, products, then) -> y, (B, 2 H, 2 W, O),
      which a 3x3 kernel reads next; `then`, a function of every pixel's
      channels, is applied to it.
    convolve_downsample: (x, kernel, bias, products) -> y, (B, H / 2, W / 2, O).
    leaky_relu: x -> the same with a leaky ReLU.
    leaky_relu_and_downsample: x -> (B, H / 2, W / 2, C).
    upsample: x -> (B, 2 H, 2 W, C).
    downsample: (images, factor) -> (B, H / factor, W / factor, C).
    fit: (x, width) -> x in the form of a level of `width` channels.
    prepend: (image, x) -> the channels of both.
    enter: (pyramid, stddev layer or None) -> both in the form of D, and how its
      scores leave it.
  """

  convolve: Callable
  upsample_convolve: Callable
  convolve_downsample: Callable
  leaky_relu: Callable
  leaky_relu_and_downsample: Callable
  upsample: Callable
  downsample: Callable
  fit: Callable
  prepend: Callable
  enter: Callable


def _biased(operation: Callable) -> Callable:
  """Return a convolution that adds a bias."""

  def biased(x, kernel, bias, products, before_window=False):
    del before_window
    return plain.add_bias(operation(x, kernel, products), bias)

  return biased


def _by_type(plain_form: Callable, folded_form: Callable) -> Callable:
  """Return an operation; its second form takes any folded argument."""

  @functools.wraps(plain_form)
  def operation(*args: Any) -> Any:
    folded = any(isinstance(x, Folded) for x in args)
    return (folded_form if folded else plain_form)(*args)

  return operation


# These take folded arrays, too.
to_array, like, per_channel = tpu.to_array, tpu.like, tpu.per_channel
concatenate, downsample = tpu.concatenate, tpu.downsample
upsample_like = tpu.upsample_like


def _followed(operation: Callable) -> Callable:
  """Return an operation that applies its last argument to the result."""
  return lambda *operands: operands[-1](operation(*operands[:-1]))


def leaky_relu(x: Any) -> Any:
  """Apply a leaky ReLU of slope 0.2 (paper, Tables 6 and 7)."""
  return jax.tree.map(plain.leaky_relu, x)


def _leaky_relu_and_downsample(x: Any) -> Any:
  return downsample(leaky_relu(x))


PLAIN = Kernels(
  convolve=_biased(plain.convolve),
  upsample_convolve=_followed(_biased(plain.upsample_convolve)),
  convolve_downsample=_biased(plain.convolve_downsample),
  leaky_relu=leaky_relu,
  leaky_relu_and_downsample=_leaky_relu_and_downsample,
  upsample=plain.upsample,
  downsample=plain.downsample,
  fit=lambda x, width: x,
  prepend=plain.concatenate,
  enter=lambda pyramid, stddev: (pyramid, stddev, lambda scores: scores),
)
BY_PLATFORM = dataclasses.replace(
  PLAIN,
  convolve=_biased(by_platform.convolve),
  upsample_convolve=_followed(_biased(by_platform.upsample_convolve)),
  convolve_downsample=_biased(by_platform.convolve_downsample),
  upsample=by_platform.upsample,
  downsample=downsample,
)
FOLDED = dataclasses.replace(
  PLAIN,
  convolve=tpu.convolve,
  upsample_convolve=_followed(tpu.upsample_convolve),
  convolve_downsample=tpu.convolve_downsample,
  upsample=tpu.upsample,
  downsample=downsample,
  fit=tpu.fit,
  prepend=tpu.prepend,
  enter=tpu.enter,
)
ON_GPUS = dataclasses.replace(
  BY_PLATFORM,
  convolve=gpu.convolve,
  upsample_convolve=gpu.upsample_convolve,
  convolve_downsample=gpu.convolve_downsample,
  leaky_relu=gpu.leaky_relu,
  leaky_relu_and_downsample=gpu.leaky_relu_and_downsample,
  prepend=gpu.prepend,
  enter=gpu.enter,
)
# Platform -> of the training step.
_TRAINING = {"tpu": FOLDED, "gpu": ON_GPUS}


def for_training(platform: str) -> Kernels:
  """Return the kernels of the training step on a platform, such as "cpu"."""
  return _TRAINING.get(platform, BY_PLATFORM)


blur = _by_type(plain.blur, tpu.blur)
instance_norm = _by_type(plain.instance_norm, tpu.instance_norm)
leaky_relu_and_pixel_norm = _by_type(
  plain.leaky_relu_and_pixel_norm, tpu.leaky_relu_and_pixel_norm
)
weighted_noise = _by_type(plain.weighted_noise, tpu.weighted_noise)
