"""Transformations of pyramids: the same one on every scale of an example.

Two groups. Exact: the pyramid of a transformed image is the transformed
pyramid, because color matrices, flips, quarter turns, and shifts and cutouts
on the lattice of the smallest scale commute with 2x2 means. Approximate: warps
(fractional shifts, zooms, rotations) resample each scale by itself, so they
commute only for images without detail near the size of a pixel; see `warp`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from msggan_jax.kernels import to_array
from msggan_jax.kernels.precision import TRUE_FLOAT32
from msggan_jax.models.pyramid import Pyramid, resolution_of

OUTSIDE = 8  # a cell that no lattice has
_CUTOUT = 2  # cells along each side of a cutout
_TAPS = (-1, 0, 1, 2)  # of the cubic kernel, from the pixel below


class Transformation(NamedTuple):
  """One transformation an example, applied in the order of the fields.

  Attributes:
    color: Matrix and offset of the color channels, (B, C, C) and (B, C); C is
      3 for RGB and RGBA, else 1, for each channel alike.
    flip: Whether to flip left to right, (B,) bool.
    turns: Quarter turns, counter-clockwise, (B,) int32; even ones if images are
      not square.
    cells: Shift down and to the right, in cells of the lattice, 4x4 for square
      images, -1, 0 or 1, (B, 2) int32. Borders are mirrored.
    warp: From coordinates in the result to those in the image, (B, 2, 3);
      (y, x, 1), where y and x go from -1 to 1. Borders are mirrored.
    cutout: Top left cell of 2x2 cells that become 0, mid gray, (B, 2) int32;
      from `OUTSIDE` on none.
  """

  color: tuple[jax.Array, jax.Array] | None = None
  flip: jax.Array | None = None
  turns: jax.Array | None = None
  cells: jax.Array | None = None
  warp: jax.Array | None = None
  cutout: jax.Array | None = None


def transform(
  pyramid: Pyramid, transformation: Transformation | None
) -> Pyramid:
  """Apply each example's transformation to all of its scales, in [-1, 1].

  Fields that are None, or None itself, change nothing.
  """
  if transformation is None:
    return pyramid
  pyramid = tuple(map(to_array, pyramid))
  for apply, parameters in zip(_APPLY, transformation, strict=True):
    if parameters is not None:
      pyramid = tuple(apply(images, parameters) for images in pyramid)
  return pyramid


def change_color(
  images: jax.Array, color: tuple[jax.Array, jax.Array]
) -> jax.Array:
  """Multiply the color channels by a matrix and add an offset."""
  matrix, offset = color
  size = matrix.shape[-1]
  if size == 1:  # every channel alike
    return images * matrix[:, :, :, None] + offset[:, None, None, :]
  colors = jnp.einsum(
    "bhwc,bdc->bhwd", images[..., :size], matrix, precision=TRUE_FLOAT32
  )
  colors = colors + offset[:, None, None, :]
  return jnp.concatenate([colors, images[..., size:]], axis=-1)


def flip(images: jax.Array, flipped: jax.Array) -> jax.Array:
  """Flip some images left to right."""
  return _choose(flipped, images[:, :, ::-1], images)


def turn(images: jax.Array, turns: jax.Array) -> jax.Array:
  """Rotate images by quarter turns, counter-clockwise."""
  result = images
  square = images.shape[1] == images.shape[2]
  for k in (1, 2, 3) if square else (2,):
    result = _choose(turns == k, jnp.rot90(images, k, axes=(1, 2)), result)
  return result


def shift(images: jax.Array, cells: jax.Array) -> jax.Array:
  """Shift images by cells of the lattice; mirror at the borders."""
  images = _shift_along(1, images, cells[:, 0])
  return _shift_along(2, images, cells[:, 1])


def _shift_along(axis: int, images: jax.Array, cells: jax.Array) -> jax.Array:
  size = images.shape[axis]
  cell = _cell(images)

  def part(first: int, last: int) -> jax.Array:
    return jax.lax.slice_in_dim(images, first, last, axis=axis)

  forward = [jnp.flip(part(0, cell), axis), part(0, size - cell)]
  backward = [part(cell, size), jnp.flip(part(size - cell, size), axis)]
  shifted = _choose(cells == 1, jnp.concatenate(forward, axis), images)
  return _choose(cells == -1, jnp.concatenate(backward, axis), shifted)


def cut_out(images: jax.Array, corner: jax.Array) -> jax.Array:
  """Set 2x2 cells of the lattice to 0."""
  cell = _cell(images)

  def inside(axis: int) -> jax.Array:  # (B, cells along the axis)
    cells = jnp.arange(images.shape[1 + axis] // cell, dtype=corner.dtype)
    from_corner = cells[None] - corner[:, axis, None]
    return (from_corner >= 0) & (from_corner < _CUTOUT)

  cut = inside(0)[:, :, None] & inside(1)[:, None, :]
  cut = jnp.repeat(jnp.repeat(cut, cell, axis=1), cell, axis=2)
  return jnp.where(cut[..., None], jnp.zeros((), images.dtype), images)


def warp(images: jax.Array, matrix: jax.Array) -> jax.Array:
  """Resample images with an affine map and Catmull-Rom's cubic kernel.

  A wave of one period along a side keeps its shape to 6 % of its norm at 4x4,
  0.8 % at 8x8, 0.08 % at 16x16, 0.01 % at 32x32. Borders are mirrored.
  """
  b, h, w, c = images.shape
  axes = [(2 * jnp.arange(n, dtype=images.dtype) + 1) / n - 1 for n in (h, w)]
  grid = jnp.stack(
    [*jnp.meshgrid(*axes, indexing="ij"), jnp.ones((h, w), images.dtype)]
  )
  source = jnp.einsum("bij,jhw->bihw", matrix, grid, precision=TRUE_FLOAT32)
  flat = images.reshape(b, h * w, c)
  (rows, row_weights), (columns, column_weights) = (
    _taps((source[:, i] + 1) * n / 2 - 0.5, n) for i, n in enumerate((h, w))
  )
  result = jnp.zeros((b, h * w, c), images.dtype)
  for row, row_weight in zip(rows, row_weights, strict=True):
    for column, column_weight in zip(columns, column_weights, strict=True):
      places = (row * w + column).reshape(b, h * w, 1)
      weights = (row_weight * column_weight).reshape(b, h * w, 1)
      result += weights * jnp.take_along_axis(flat, places, axis=1)
  return result.reshape(images.shape)


def _taps(position: jax.Array, size: int) -> tuple[list, list]:
  """Return four pixels beside each position, and their weights."""
  below = jnp.floor(position)
  pixels, weights = [], []
  for tap in _TAPS:
    pixel = jnp.mod(below.astype(jnp.int32) + tap, 2 * size)
    pixels.append(jnp.where(pixel < size, pixel, 2 * size - 1 - pixel))
    weights.append(_cubic(jnp.abs(position - below - tap)))
  return pixels, weights


def _cubic(x: jax.Array) -> jax.Array:
  # Keys 1981 with a = -1/2, for |x| <= 2.
  near = (1.5 * x - 2.5) * x**2 + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x <= 1, near, far)


def _cell(images: jax.Array) -> int:
  """Return the side of a cell: the smallest scale has a pixel for each."""
  return resolution_of(images) // 4


def _choose(chosen: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.where(chosen[:, None, None, None], a, b)


_APPLY = Transformation(change_color, flip, turn, shift, warp, cut_out)
