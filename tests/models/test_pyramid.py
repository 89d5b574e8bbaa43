"""Conversions of images, pyramids, grids."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from msggan_jax.data import pictures
from msggan_jax.models.pyramid import (
  join_images,
  make_pyramid,
  quantize,
  to_float,
  to_uint8,
)


def test_uint8_round_trip():
  levels = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(to_uint8(to_float(jnp.asarray(levels))), levels)
  ends = to_uint8(np.array([-3.0, -1.0, 1.0, 9.0]))
  np.testing.assert_array_equal(ends, [0, 0, 255, 255])
  with pytest.raises(ValueError, match="uint8 already"):
    to_uint8(levels)


def test_quantize_equals_to_uint8():
  """Around every border between two levels, and beyond the range."""
  borders = ((np.arange(-2, 259) - 0.5) / 127.5 - 1).astype(np.float32)
  images = borders[:, None] + np.arange(-50, 51, dtype=np.float32) * 2.0**-24
  np.testing.assert_array_equal(quantize(jnp.asarray(images)), to_uint8(images))


def test_pyramid_is_repeated_averaging():
  x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
  pyramid = make_pyramid(x, (4, 16))
  assert [scale.shape[1] for scale in pyramid] == [4, 16]
  expected = np.asarray(x).reshape(2, 4, 4, 4, 4, 3).mean(axis=(2, 4))
  np.testing.assert_allclose(pyramid[0], expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(pyramid[1], x)


@pytest.mark.parametrize(
  "sides", [[(4, 4), (8, 8), (16, 16)], [(3, 4), (12, 16)]]
)
def test_scales_of_all_other_pyramids_agree(sides):
  """Means are the scale below; exact ones keep the details of `to_rgb`."""
  rng = np.random.default_rng(1)
  rgb = [rng.normal(size=(4, *side, 3)).astype("f") for side in sides]
  pyramids = {
    kind: [np.asarray(x, np.float64) for x in join_images(rgb, kind)]
    for kind in ("rgb", "exact", "pooled")
  }

  def means(x, like):
    b, h, w, c = like.shape
    return x.reshape(b, h, len(x[0]) // h, w, -1, c).mean((2, 4))

  def details(x, like):
    factor = len(x[0]) // len(like[0])
    return x - means(x, like).repeat(factor, 1).repeat(factor, 2)

  rgb = pyramids["rgb"]
  assert np.abs(means(rgb[1], rgb[0]) - rgb[0]).mean() > 0.1
  for kind in ("exact", "pooled"):
    for below, image in itertools.pairwise(pyramids[kind]):
      np.testing.assert_allclose(means(image, below), below, atol=2e-5)
  exact = pyramids["exact"]
  np.testing.assert_array_equal(exact[0], rgb[0])
  for i, below in enumerate(rgb[:-1]):
    np.testing.assert_allclose(
      details(exact[i + 1], below), details(rgb[i + 1], below), atol=2e-5
    )
  np.testing.assert_array_equal(pyramids["pooled"][-1], rgb[-1])


def test_grid_places_images_row_by_row():
  x = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones(
    (5, 2, 2, 1), np.uint8
  )
  np.testing.assert_array_equal(
    pictures.grid(x, columns=3)[::2, ::2, 0], [[0, 1, 2], [3, 4, 0]]
  )


def test_scale_sheet_shows_one_latent_a_column():
  pyramid = tuple(np.zeros((4, r, r, 3), np.uint8) + r for r in (4, 8))
  sheet = pictures.scale_sheet(pyramid, examples=3)
  assert sheet.shape == (16, 24, 3)
  assert (sheet[:8] == 4).all() and (sheet[8:] == 8).all()


def test_png_of_one_to_five_channels(tmp_path):
  for channels in range(1, 6):
    image = np.full((4, 4, channels), 7, np.uint8)
    path = tmp_path / "folder" / f"{channels}.png"
    pictures.save_png(pictures.view(image), path)
    expected = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, "L")
    with Image.open(path) as opened:
      assert opened.mode == expected
      assert opened.size == {2: (8, 8), 5: (12, 12)}.get(channels, (4, 4))


def test_views_show_bands_or_all_channels():
  image = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(1, 2, 3, 5)
  tiles = pictures.view(image)
  assert tiles.shape == (1, 6, 9, 1)
  np.testing.assert_array_equal(tiles[0, 2:4, :3, 0], image[0, ..., 3])
  np.testing.assert_array_equal(tiles[0, :2, 6:, 0], image[0, ..., 2])
  assert (tiles[0, 4:] == 0).all()
  bands = pictures.parse_bands("5,1,2", 5)
  np.testing.assert_array_equal(
    pictures.view(image, bands), image[..., [4, 0, 1]]
  )
  rgba = image[..., :4]
  assert pictures.view(rgba) is rgba
  assert pictures.view(rgba, colors=False).shape == (1, 4, 6, 1)
  for text in ("1,2", "0", "6", "a", "1,2,3,4"):
    with pytest.raises(ValueError, match="choose one channel or three, from 1"):
      pictures.parse_bands(text, 5)
