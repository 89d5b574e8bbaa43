"""Sheets: where images and titles are."""

import numpy as np
import pytest

from msggan_jax.sampling import sheets


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_where_the_titles_say(channels):
  rows = [
    [np.full((4, 4, channels), 10 * i + j, np.uint8) for j in range(3)]
    for i in range(2)
  ]
  if channels == 4:
    for row in rows:
      for image in row:
        image[..., 3] = 255
  sheet = sheets.make_sheet(
    rows,
    row_titles=["seed 1\nclass 2", "seed 2"],
    column_titles=["ψ = 1", "2nd\nof 3", "last"],
  )
  bottom, right = sheet[-4 - 128 : -4], slice(-4 - 128, -4)
  assert (bottom[:, right] == 12).all()
  assert (sheet[-4 - 128 - 132 :][:128, right] == 2).all()
  # Titles are left and above, and nothing else is dark.
  top, left = sheet.shape[0] - 2 * 132, sheet.shape[1] - 3 * 132
  assert sheet[:top, left:].min() < 100 and sheet[top:, :left].min() < 100
  assert (sheet[:top, :left] == 255).all()


def test_fit_repeats_or_averages():
  image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
  np.testing.assert_array_equal(sheets.fit(image, 8)[::2, 1::2], image)
  halves = image.reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
  assert np.abs(sheets.fit(image, 2) - halves).max() <= 0.5
