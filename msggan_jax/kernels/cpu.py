"""Convolutions for CPUs, 3x3 with fewer products (Lavin & Gray 2016).

F(2x2, 3x3) computes a tile of 2x2 outputs from 4x4 inputs, with 16 products
per pair of channels instead of 36 (section 4.1):

    y = A' [(G k G') * (B' x B)] A,

where * is elementwise over the 4x4 places and a matrix product over channels.
A tile of an upsampled image has only 3x3 distinct inputs and takes 9 products.
Transforms and their derivatives are explicit sums of shifted images.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msggan_jax.kernels import plain
from msggan_jax.kernels.precision import TRUE_FLOAT32, Products, matmul

# Operation -> least and largest side of the image, in pixels, and least number
# of channels with which it is faster than XLA's, as measured. Larger images
# exceed the cache.
_PAYS = {
  "convolve": (32, 64, 64),
  "correlate": (16, 64, 32),
  "upsample_convolve": (8, 512, 32),
}

# Of an upsampled x, this row and this column of B' x B are zero.
_UPSAMPLED_ZERO = 2
# Positions per chunk, so that their transforms stay in the cache.
_POSITIONS = 2048

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

Grid = list[list[jax.Array]]  # one array per place of the tile


def pays(operation: str, x: jax.Array, kernel_shape: tuple[int, ...]) -> bool:
  """Return whether this form is faster; x is the convolution's input."""
  smallest, largest, narrowest = _PAYS[operation]
  _, height, width, _ = x.shape
  return (
    kernel_shape[:2] == (3, 3)
    and min(kernel_shape[2:]) >= narrowest
    and height == width
    and smallest <= width <= largest
    # bfloat16 would lose too much precision.
    and x.dtype in (jnp.float32, jnp.float64)
  )


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Compute `plain.convolve` of a 3x3 kernel; H and W are even."""
  u = _transform_kernel(kernel)
  return _map_chunks(lambda x: _untile(_products(_tiles(x), u)), x)


def correlate(x: jax.Array, y: jax.Array) -> jax.Array:
  """Compute `plain.correlate` of a 3x3 kernel."""

  def part(operands):
    x, y = operands
    return _correlate_tiles(_tiles(x), _untile_transposed(y)), ()

  u_bar, _ = _sum_chunks(part, (_chunks(x), _chunks(y)))
  return _transform_kernel_transposed(u_bar)


def correlate_as_convolution(
  x: jax.Array, y: jax.Array, size: int, products: Products
) -> jax.Array:
  """Compute `plain.correlate` with the dimensions of `plain.convolve`.

  XLA's fast form for CPUs needs them in that order, and XLA reorders them only
  outside of conditionals and loops. Inside, where micro-batches and lazy
  penalties are, the other order took 70 and 230 times as long.
  """
  gradient = plain.convolve(
    x.transpose(3, 1, 2, 0),
    y.transpose(1, 2, 0, 3),
    products,
    padding=[(size // 2, size // 2)] * 2,
  )
  return gradient.transpose(1, 2, 0, 3)


@jax.custom_vjp
def upsample_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Compute `plain.upsample_convolve` of a 3x3 kernel."""
  u = _transform_kernel(kernel)
  return _map_chunks(lambda x: _upsample_convolve(x, u), x, outputs=4)


def _upsample_convolve_forward(x, kernel):
  return upsample_convolve(x, kernel), (x, kernel)


def _upsample_convolve_backward(residuals, y_bar):
  x, kernel = residuals
  u = _transform_kernel(kernel)

  def part(operands):
    x, y_bar = operands
    x_bar, u_bar = jax.vjp(_upsample_convolve, x, u)[1](y_bar)
    return u_bar, x_bar

  operands = (_chunks(x, outputs=4), _chunks(y_bar))
  u_bar, x_bar = _sum_chunks(part, operands)
  return x_bar.reshape(x.shape), _transform_kernel_transposed(u_bar)


upsample_convolve.defvjp(
  _upsample_convolve_forward, _upsample_convolve_backward
)


def _upsample_convolve(x: jax.Array, u: jax.Array) -> jax.Array:
  places = [i for i in range(4) if i != _UPSAMPLED_ZERO]
  u = u[np.ix_(places, places)]
  m = _products(_upsampled_tiles(x), u)
  zero = jnp.zeros_like(m[0][0])
  for row in m:
    row.insert(_UPSAMPLED_ZERO, zero)
  m.insert(_UPSAMPLED_ZERO, [zero] * 4)
  return _untile(m)


def _transform_kernel(kernel: jax.Array) -> jax.Array:
  """Return G k G', (4, 4, I, O)."""
  g = _G.astype(kernel.dtype)
  return jnp.einsum("ai,bj,ijco->abco", g, g, kernel, precision=TRUE_FLOAT32)


def _transform_kernel_transposed(u_bar: jax.Array) -> jax.Array:
  g = _G.astype(u_bar.dtype)
  return jnp.einsum("ai,bj,abco->ijco", g, g, u_bar, precision=TRUE_FLOAT32)


def _tiles(x: jax.Array) -> Grid:
  """Return B' x B: 4 x 4 arrays of (B, H/2, W/2, I), one entry per tile."""
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = _b([x[:, i : i + h : 2] for i in range(4)])
  return [_b([row[:, :, j : j + w : 2] for j in range(4)]) for row in rows]


def _upsampled_tiles(x: jax.Array) -> Grid:
  """Return the nonzero part of B' x B for the upsampled x: 3 x 3 arrays."""
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = _upsampled_b([x[:, i : i + h] for i in range(3)])
  return [
    _upsampled_b([row[:, :, j : j + w] for j in range(3)]) for row in rows
  ]


def _b(x: list[jax.Array]) -> list[jax.Array]:
  """Return B' x of four inputs."""
  return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _upsampled_b(x: list[jax.Array]) -> list[jax.Array]:
  """Return the nonzero part of B' [x0, x1, x1, x2]."""
  return [x[0] - x[1], 2 * x[1], x[1] - x[2]]


def _a(m: list[jax.Array]) -> list[jax.Array]:
  """Return A' m of four products."""
  return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _a_transposed(y0: jax.Array, y1: jax.Array) -> list[jax.Array]:
  """Return A y of two outputs."""
  return [y0, y0 + y1, y0 - y1, -y1]


def _products(v: Grid, u: jax.Array) -> Grid:
  """Multiply tiles and kernel over the channels, place by place: (..., O)."""
  return [
    [matmul(tile, u[i, j]) for j, tile in enumerate(row)]
    for i, row in enumerate(v)
  ]


def _correlate_tiles(v: Grid, m_bar: Grid) -> jax.Array:
  """Return the cotangent of the kernel in `_products`."""

  def flat(x):
    return x.reshape(-1, x.shape[-1])

  rows = []
  for v_row, m_row in zip(v, m_bar, strict=True):
    pairs = zip(v_row, m_row, strict=True)
    rows.append(jnp.stack([matmul(flat(x).T, flat(y)) for x, y in pairs]))
  return jnp.stack(rows)


def _untile(m: Grid) -> jax.Array:
  """Return A' m A, the joined 2x2 outputs of all tiles: (B, H, W, O)."""
  left, right = zip(*[_a(row) for row in m], strict=True)  # m A
  y00, y10 = _a(left)
  y01, y11 = _a(right)
  top = jnp.stack([y00, y01], axis=3)
  bottom = jnp.stack([y10, y11], axis=3)
  y = jnp.stack([top, bottom], axis=2)  # (B, H/2, 2, W/2, 2, O)
  b, h, _, w, _, o = y.shape
  return y.reshape(b, 2 * h, 2 * w, o)


def _untile_transposed(y: jax.Array) -> Grid:
  """Return A y A', the cotangent of the products: 4 x 4 arrays."""
  rows = _a_transposed(y[:, 0::2], y[:, 1::2])
  return [_a_transposed(row[:, :, 0::2], row[:, :, 1::2]) for row in rows]


def _chunks(x: jax.Array, outputs: int = 1) -> jax.Array:
  """Split the batch: (B, H, W, C) to (chunks, examples, H, W, C)."""
  b, h, w, _ = x.shape
  size = max(1, _POSITIONS // (h * w * outputs))
  while b % size:
    size -= 1
  return x.reshape(b // size, size, *x.shape[1:])


def _map_chunks(
  f: Callable[[jax.Array], jax.Array], x: jax.Array, outputs: int = 1
) -> jax.Array:
  y = jax.lax.map(f, _chunks(x, outputs))
  return y.reshape(x.shape[0], *y.shape[2:])


def _sum_chunks(part: Callable, chunks: Any) -> tuple[jax.Array, Any]:
  """Scan over chunks; sum the first results, stack the second."""
  result = jax.eval_shape(part, jax.tree.map(lambda x: x[0], chunks))[0]
  # Under shard_map, zeros like the chunks vary over devices, as the sums do.
  like = jax.tree.leaves(chunks)[0]
  zeros = jnp.zeros_like(like, shape=result.shape, dtype=result.dtype)

  def add(total, chunk):
    value, others = part(chunk)
    return total + value, others

  return jax.lax.scan(add, zeros, chunks)
