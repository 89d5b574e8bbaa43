"""Operations on plain arrays, in the form of the platform of a program.

JAX picks it when it compiles, so a program traced once runs anywhere. The
convolution and its weight gradient are bilinear, and each is a derivative of
the other; so are the two resamplings. Derivatives of any order, as in gradient
penalties, stay within the pair.
"""

import functools
from collections.abc import Callable

import jax

from msggan_jax.kernels import cpu, plain
from msggan_jax.kernels.precision import TRUE_FLOAT32, Products
from msggan_jax.kernels.tpu import unfolded


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `plain.convolve` with zero padding, k odd."""
  default = functools.partial(plain.convolve, products=products)
  if cpu.pays("convolve", x, kernel.shape):
    return _choose(x, kernel, default=default, cpu=cpu.convolve)
  return default(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def correlate(
  x: jax.Array,
  y: jax.Array,
  kernel_size: int,
  products: Products = TRUE_FLOAT32,
) -> jax.Array:
  """Compute `plain.correlate`."""
  default = functools.partial(
    plain.correlate, kernel_size=kernel_size, products=products
  )
  shape = (kernel_size, kernel_size, x.shape[-1], y.shape[-1])
  if cpu.pays("correlate", x, shape):
    return _choose(x, y, default=default, cpu=cpu.correlate)
  return default(x, y)


def _convolve_backward(products, residuals, y_bar):
  x, kernel = residuals
  x_bar = convolve(y_bar, plain.transposed(kernel), products)
  return x_bar, correlate(x, y_bar, kernel.shape[0], products)


def _correlate_backward(kernel_size, products, residuals, kernel_bar):
  del kernel_size
  x, y = residuals
  x_bar = convolve(y, plain.transposed(kernel_bar), products)
  return x_bar, convolve(x, kernel_bar, products)


convolve.defvjp(
  lambda x, kernel, *options: (convolve(x, kernel, *options), (x, kernel)),
  _convolve_backward,
)
correlate.defvjp(
  lambda x, y, *options: (correlate(x, y, *options), (x, y)),
  _correlate_backward,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _downsample(x: jax.Array, factor: int) -> jax.Array:
  return _choose(
    x,
    default=functools.partial(plain.downsample, factor=factor),
    tpu=functools.partial(unfolded.downsample, factor=factor),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _upsample(x: jax.Array, factor: int) -> jax.Array:
  return plain.upsample(x, factor)


_downsample.defvjp(
  lambda x, factor: (_downsample(x, factor), None),
  lambda factor, _, y: (_upsample(y, factor) / factor**2,),
)
_upsample.defvjp(
  lambda x, factor: (_upsample(x, factor), None),
  lambda factor, _, y: (_downsample(y, factor) * factor**2,),
)


def downsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Compute `plain.downsample`."""
  return _downsample(x, factor) if factor > 1 else x


def upsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Compute `plain.upsample`."""
  return _upsample(x, factor)


def upsample_convolve(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `plain.upsample_convolve` of a 3x3 kernel."""

  def default(x, kernel):
    return convolve(upsample(x), kernel, products)

  pays = cpu.pays("upsample_convolve", x, kernel.shape)
  return _choose(
    x,
    kernel,
    default=default,
    cpu=cpu.upsample_convolve if pays else default,
    tpu=functools.partial(unfolded.upsample_convolve, products=products),
  )


def convolve_downsample(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `plain.convolve_downsample` of a 3x3 kernel."""

  def default(x, kernel):
    return downsample(convolve(x, kernel, products))

  return _choose(
    x,
    kernel,
    default=default,
    tpu=functools.partial(unfolded.convolve_downsample, products=products),
  )


def _choose(*operands: jax.Array, **forms: Callable) -> jax.Array:
  return jax.lax.platform_dependent(*operands, **forms)
