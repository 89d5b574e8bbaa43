"""The 3x3 convolution, differentiable any number of times at full speed.

XLA's weight gradient of a convolution is slow on CPUs, and so is all that a
gradient penalty differentiates through it. Here the convolution and its weight
gradient are two bilinear functions, each the derivative of the other, so that
every order of differentiation stays inside the pair; only the weight gradient
on CPUs is formulated differently, everything else is XLA's own convolution.
"""

import functools

import jax
import jax.numpy as jnp

# Weight gradients of smaller images are as fast in XLA's formulation.
_SMALLEST_ON_CPU = 16
# Positions per matrix product: so many that it is efficient, so few that its
# operands stay in the cache.
_POSITIONS_PER_PRODUCT = 4096


def convolve_plain(
  x: jax.Array, kernel: jax.Array, padding: str = "SAME"
) -> jax.Array:
  """Convolve as XLA does it; the reference of `convolve`.

  Args:
    x: (B, H, W, I).
    kernel: (k, k, I, O).
    padding: "SAME" (zeros) or "VALID".

  Returns:
    (B, H, W, O), smaller by k - 1 if padding is "VALID".
  """
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolve with zero padding and an odd kernel: `convolve_plain`, faster.

  Args:
    x: (B, H, W, I).
    kernel: (k, k, I, O), k odd.

  Returns:
    (B, H, W, O).
  """
  return convolve_plain(x, kernel)


def _convolve_forward(x, kernel):
  return convolve(x, kernel), (x, kernel)


def _convolve_backward(residuals, y_bar):
  x, kernel = residuals
  x_bar = convolve(y_bar, _transposed(kernel))
  return x_bar, correlate(x, y_bar, kernel.shape[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlate(x: jax.Array, y: jax.Array, kernel_size: int) -> jax.Array:
  """Return the weight gradient of `convolve`.

  Args:
    x: The convolution's input, (B, H, W, I).
    y: The cotangent of its output, (B, H, W, O).
    kernel_size: k, odd.

  Returns:
    (k, k, I, O): at (i, j) the sum over B, H, W of x, moved by (i, j) minus
    the kernel's centre, times y.
  """
  plain = functools.partial(_correlate_plain, kernel_size=kernel_size)
  if kernel_size == 1 or x.shape[1] < _SMALLEST_ON_CPU:
    return plain(x, y)
  shifted = functools.partial(_correlate_by_shifts, kernel_size=kernel_size)
  return jax.lax.platform_dependent(x, y, cpu=shifted, default=plain)


def _correlate_forward(x, y, kernel_size):
  return correlate(x, y, kernel_size), (x, y)


def _correlate_backward(kernel_size, residuals, kernel_bar):
  x, y = residuals
  return convolve(y, _transposed(kernel_bar)), convolve(x, kernel_bar)


convolve.defvjp(_convolve_forward, _convolve_backward)
correlate.defvjp(_correlate_forward, _correlate_backward)


def _transposed(kernel: jax.Array) -> jax.Array:
  """Return the kernel of the convolution's transpose (k odd, zero padding)."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _correlate_plain(x, y, kernel_size: int) -> jax.Array:
  """Convolve x with y as the kernel; the batch is what is summed over."""
  margin = kernel_size // 2
  return jax.lax.conv_general_dilated(
    x,
    y,
    window_strides=(1, 1),
    padding=[(margin, margin)] * 2,
    dimension_numbers=("CHWN", "IHWO", "HWNC"),
  )


def _correlate_by_shifts(x, y, kernel_size: int) -> jax.Array:
  """Sum, over chunks of the batch, one matrix product per kernel place."""
  b, h, w, _ = x.shape
  chunk = max(1, _POSITIONS_PER_PRODUCT // (h * w))
  while b % chunk:
    chunk -= 1
  margin = kernel_size // 2
  places = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]

  def products(operands):
    x, y = operands  # (chunk, H, W, I), (chunk, H, W, O)
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    y = y.reshape(-1, y.shape[-1])
    moved = [x[:, i : i + h, j : j + w] for i, j in places]
    return jnp.stack([m.reshape(-1, m.shape[-1]).T @ y for m in moved])

  chunks = [z.reshape(b // chunk, chunk, *z.shape[1:]) for z in (x, y)]
  kernel_bar = jax.lax.map(products, tuple(chunks)).sum(axis=0)
  return kernel_bar.reshape(kernel_size, kernel_size, x.shape[-1], y.shape[-1])
