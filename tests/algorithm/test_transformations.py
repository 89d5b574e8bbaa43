"""Transformations against NumPy, warps against waves."""

import jax
import numpy as np
import pytest

from msggan_jax.algorithm.transformations import Transformation, transform

BATCH = 6


def random_images(channels=3, size=32):
  rng = np.random.default_rng(0)
  return rng.normal(size=(BATCH, size, size, channels)).astype(np.float32)


def parameters(channels=3):
  """Return a Transformation of the exact group, another for each example."""
  rng = np.random.default_rng(1)
  colors = 3 if channels in (3, 4) else 1
  return Transformation(
    color=(
      rng.normal(size=(BATCH, colors, colors)).astype(np.float32),
      rng.normal(size=(BATCH, colors)).astype(np.float32),
    ),
    flip=np.array([0, 1, 0, 1, 0, 1], bool),
    turns=np.array([0, 1, 2, 3, 1, 3]),
    cells=np.array([[0, 1], [1, -1], [-1, 0], [0, 0], [1, 1], [-1, -1]]),
    cutout=np.array([[-1, -1], [0, 2], [3, 3], [-4, -4], [1, 1], [-1, 3]]),
  )


apply = jax.jit(transform)


def expected(images, name, value):
  """Return one example's transformed image, by NumPy's own functions."""
  size = len(images)
  if name == "color":
    matrix, offset = value
    colors = images[..., : len(matrix)]
    if len(matrix) == 1:
      return images * matrix[0, 0] + offset[0]
    return np.concatenate(
      [colors @ matrix.T + offset, images[..., len(matrix) :]], axis=-1
    )
  if name == "flip":
    return np.fliplr(images) if value else images
  if name == "turns":
    return np.rot90(images, value)
  cell = size // 4
  if name == "cells":
    padded = np.pad(images, ((cell, cell), (cell, cell), (0, 0)), "symmetric")
    y, x = cell - cell * value
    return padded[y : y + size, x : x + size]
  result = images.copy()
  (top, left), (bottom, right) = np.maximum(value, 0), np.maximum(value + 2, 0)
  result[top * cell : bottom * cell, left * cell : right * cell] = 0
  return result


@pytest.mark.parametrize(
  ("name", "channels"),
  [
    *(("color", channels) for channels in (1, 3, 4)),
    *((name, 3) for name in ("flip", "turns", "cells", "cutout")),
  ],
)
def test_each_against_numpy(name, channels):
  images = random_images(channels)
  value = getattr(parameters(channels), name)
  (ours,) = apply((images,), Transformation(**{name: value}))
  for i in range(BATCH):
    theirs = expected(images[i], name, jax.tree.map(lambda x, i=i: x[i], value))
    np.testing.assert_allclose(ours[i], theirs, atol=2e-6)


def waves(rows, columns):
  """Return plane waves of one period along a side, another phase an example."""
  phases = np.linspace(0, 2, BATCH)[:, None, None]
  angle = 2 * np.pi * (0.8 * rows + 0.6 * columns) + phases
  return np.sin(angle)[..., None].astype(np.float32)


def warps():
  """Return fractional shifts, zooms and rotations, one an example."""
  rng = np.random.default_rng(2)
  angles = rng.uniform(-np.pi, np.pi, BATCH)
  zooms = rng.uniform(0.9, 1.2, BATCH)
  c, s = np.cos(angles) / zooms, np.sin(angles) / zooms
  shifts = rng.uniform(-0.1, 0.1, (2, BATCH))
  matrix = np.array([[c, s, shifts[0]], [-s, c, shifts[1]]])
  return np.moveaxis(matrix, -1, 0).astype(np.float32)


@pytest.mark.parametrize(
  ("scale", "tolerance"), [(4, 0.06), (16, 8e-4), (64, 1.2e-5)]
)
def test_warps_keep_waves_within_a_tolerance(scale, tolerance):
  """One wave a side: the error at scale s is about (1 / s)^3 of its norm."""
  place = (np.arange(scale) + 0.5) / scale
  rows, columns = np.meshgrid(place, place, indexing="ij")
  matrix = warps()
  (ours,) = apply((waves(rows, columns),), Transformation(warp=matrix))
  grid = np.stack([2 * rows - 1, 2 * columns - 1, np.ones_like(rows)])
  y, x = np.moveaxis(np.einsum("bij,jhw->bihw", matrix, grid), 1, 0) / 2 + 0.5
  # The middle half, away from mirrored borders.
  part = slice(scale // 4, scale - scale // 4)
  ours, exact = (np.asarray(z)[:, part, part] for z in (ours, waves(y, x)))
  assert np.linalg.norm(ours - exact) < tolerance * np.linalg.norm(exact)


def test_a_warp_by_whole_pixels_or_quarter_turns_is_exact():
  images = random_images(size=8)
  turned = np.tile(np.array([[0, 1, 0], [-1, 0, 0]], np.float32), (BATCH, 1, 1))
  (ours,) = apply((images,), Transformation(warp=turned))
  np.testing.assert_allclose(ours, np.rot90(images, 1, axes=(1, 2)), atol=1e-5)
  shifted = np.tile(
    np.array([[1, 0, -0.5], [0, 1, 0.25]], np.float32), (BATCH, 1, 1)
  )  # two pixels down, one to the left
  (ours,) = apply((images,), Transformation(warp=shifted))
  padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), "symmetric")
  np.testing.assert_allclose(ours, padded[:, :8, 3:11], atol=1e-5)
