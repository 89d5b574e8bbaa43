"""Pictures: which are kept, and how diverse they are."""

import numpy as np
import pytest
from PIL import Image

from msggan_jax.reporting import filmstrips, records
from msggan_jax.reporting.filmstrips import Detail
from tests.reporting.written_runs import noise_grid, write_run


def run_of(workdir):
  [run] = records.read([str(workdir)])
  return run


def test_first_and_last_frames_are_kept(tmp_path):
  run = run_of(write_run(tmp_path / "run", grids=21))
  strips = filmstrips.strips(run, Detail(frames=5, side=768, quality=80))
  assert [strip.scale for strip in strips] == ["scales", "4x4", "8x8"]
  kimg = [kimg for kimg, _ in strips[1].frames]
  assert kimg == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_large_pictures_shrink_and_small_ones_stay_exact(tmp_path):
  run = run_of(write_run(tmp_path / "run"))
  path = tmp_path / "run" / "samples" / "8x8" / "000004.000.png"
  Image.fromarray(np.zeros((200, 400, 3), np.uint8)).save(path)
  Image.new("RGBA", (40, 40)).save(path.parent.parent / "4x4" / path.name)
  strips = filmstrips.strips(run, Detail(frames=5, side=100, quality=80))
  _, shrunk = strips[2].frames[-1]
  assert (shrunk.width, shrunk.height) == (100, 50)
  _, kept = strips[1].frames[-1]
  assert (kept.width, kept.height) == (40, 40)


def test_other_files_are_no_frames(tmp_path):
  workdir = write_run(tmp_path / "run", grids=1)
  (workdir / "samples" / "8x8" / "1.000.png").write_text("no PNG")
  (workdir / "samples" / "8x8" / "notes.png").write_text("no time")
  (workdir / "samples" / "8x9").mkdir()
  (workdir / "reals.png").unlink()
  run, detail = run_of(workdir), filmstrips.DETAILS[0]
  assert [len(s.frames) for s in filmstrips.strips(run, detail)] == [1, 1, 1]
  assert filmstrips.reals(run, detail) is None
  assert filmstrips.diversity(run) == []


def test_diversity(tmp_path):
  workdir = write_run(tmp_path / "run", grids=3)
  folder = workdir / "samples" / "8x8"
  _, second, third = sorted(folder.iterdir())
  tile = noise_grid(7)[:8, :8]
  Image.fromarray(np.tile(tile, (4, 4, 1))).save(second)  # a collapse
  near = np.tile(tile, (4, 4, 1)) // 2 + noise_grid(8) // 2
  Image.fromarray(near).save(third)
  ratios = [ratio for _, ratio in filmstrips.diversity(run_of(workdir))]
  assert ratios == pytest.approx([1, 0, 0.5], abs=0.07)


def test_few_images_are_not_judged(tmp_path):
  workdir = write_run(tmp_path / "run", config={"resolution": 16})
  assert filmstrips.diversity(run_of(workdir)) == []  # reals: 2 x 2
