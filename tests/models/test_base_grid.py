"""Names and sizes of scales that are not square."""

import pytest

from msggan_jax.models import base_grid


@pytest.mark.parametrize("grid", ["4x4", "3x4", "4x3", "4x7", "7x4", "5x6"])
@pytest.mark.parametrize("resolution", [4, 8, 256, 1024])
def test_a_size_names_its_resolution(grid, resolution):
  rows, columns = base_grid.parse(grid)
  height, width = base_grid.image_size(resolution, (rows, columns))
  assert (height * columns, height * 4) == (width * rows, resolution * rows)
  assert base_grid.resolution_of(height, width) == resolution


@pytest.mark.parametrize(
  "grid", ["", "4", "4x", "x4", "2x4", "8x8", "4x8", "3x3", "04x4", "4x4x3", 4]
)
def test_an_impossible_grid_is_one_sentence(grid):
  with pytest.raises(ValueError, match="base_grid is .*; choose") as caught:
    base_grid.parse(grid)
  assert "\n" not in str(caught.value)
