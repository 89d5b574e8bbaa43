"""Operations on plain arrays, in the form of the platform of a program.

JAX picks it when it compiles, so a program traced once runs anywhere. The two
resamplings are derivatives of each other, see also `plain.differentiable`.
"""

import functools

import jax

from msggan_jax.kernels import cpu, plain
from msggan_jax.kernels.precision import TRUE_FLOAT32, Products
from msggan_jax.kernels.tpu import unfolded


def _convolve_once(x, kernel, products=TRUE_FLOAT32):
  default = functools.partial(plain.convolve, products=products)
  if cpu.pays("convolve", x, kernel.shape):
    return jax.lax.platform_dependent(
      x, kernel, default=default, cpu=cpu.convolve
    )
  return default(x, kernel)


def _correlate(x, y, size, products=TRUE_FLOAT32):
  default = functools.partial(
    plain.correlate, products=products, padding=[(size // 2, size // 2)] * 2
  )
  pays = cpu.pays("correlate", x, (size, size, x.shape[-1], y.shape[-1]))
  reordered = functools.partial(
    cpu.correlate_as_convolution, size=size, products=products
  )
  on_cpus = cpu.correlate if pays else reordered
  return jax.lax.platform_dependent(x, y, default=default, cpu=on_cpus)


# (x, kernel, products) -> `plain.convolve` with zero padding, k odd.
convolve = plain.differentiable(_convolve_once, _correlate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _downsample(x: jax.Array, factor: int) -> jax.Array:
  default = functools.partial(plain.downsample, factor=factor)
  at_once = functools.partial(unfolded.downsample, factor=factor)
  return jax.lax.platform_dependent(
    x, default=default, tpu=at_once, cuda=at_once
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def upsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Compute `plain.upsample`."""
  return plain.upsample(x, factor)


_downsample.defvjp(
  lambda x, factor: (_downsample(x, factor), None),
  lambda factor, _, y: (upsample(y, factor) / factor**2,),
)
upsample.defvjp(
  lambda x, factor: (upsample(x, factor), None),
  lambda factor, _, y: (_downsample(y, factor) * factor**2,),
)


def downsample(x: jax.Array, factor: int = 2) -> jax.Array:
  """Compute `plain.downsample`."""
  return _downsample(x, factor) if factor > 1 else x


def upsample_convolve(
  x: jax.Array, kernel: jax.Array, products: Products = TRUE_FLOAT32
) -> jax.Array:
  """Compute `plain.upsample_convolve` of a 3x3 kernel."""

  def default(x, kernel):
    return convolve(upsample(x), kernel, products)

  pays = cpu.pays("upsample_convolve", x, kernel.shape)
  return jax.lax.platform_dependent(
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

  return jax.lax.platform_dependent(
    x,
    kernel,
    default=default,
    tpu=functools.partial(unfolded.convolve_downsample, products=products),
  )
