"""The modes of `sample` on small random networks."""

import copy
import dataclasses
import functools
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from msggan_jax.checkpoints import trained
from msggan_jax.data import values
from msggan_jax.models import networks
from msggan_jax.models.pyramid import make_pyramid, to_float, to_uint8
from msggan_jax.sampling import formats, grids, nearest, projection, sheets
from msggan_jax.sampling.job import Job
from tests.algorithm.runs import small_config
from tests.commands import EXTRACTOR


@functools.cache
def make_generator(model="progan", **fields):
  """Return a random generator up to 8x8 whose noise and styles matter."""
  sizes = {"latent_size": 6, "w_size": 6, "mapping_size": 6}
  sizes |= {"base_channels": 64, "max_channels": 8}
  config = small_config(f"msg_{model}", **sizes, **fields)
  network = networks.make_generator(config)
  params, state = jax.jit(network.init)(jax.random.key(1))
  if model == "stylegan":
    for i in range(2):
      block = params[f"block_{4 * 2**i}x{4 * 2**i}"]
      for layer in ("layer_0", "layer_1"):
        block[layer]["noise_weight"] += 0.3
    params["mapping"]["dense_1"]["kernel"] *= 3
  return trained.Generator(config, network, params, state)


def make_job(generator, tmp_path, **fields):
  labels = [1, 0, 1] if generator.config.num_classes else None
  return Job(generator, tmp_path, (5, 6, 7), labels, **fields)


def read(path):
  return np.asarray(Image.open(path))


def cells(path, rows, columns, side=128):
  """Return the images of a sheet's file, see `cells_of`."""
  return cells_of(read(path), rows, columns, side)


def cells_of(sheet, rows, columns, side=128):
  """Return the images of a sheet, as shown: (rows, columns, side, side, 3)."""
  step = side + 4
  sheet = sheet[-rows * step :, -columns * step :]
  sheet = sheet.reshape(rows, step, columns, step, 3).swapaxes(1, 2)
  return sheet[:, :, :side, :side]


@pytest.mark.parametrize(
  "model", ["progan", pytest.param("stylegan", marks=pytest.mark.slow)]
)
def test_multiscale_shows_every_scale_of_the_seeds(model, tmp_path):
  generator = make_generator(model, num_classes=2)
  job = make_job(generator, tmp_path)
  (line,) = grids.multiscale(job)
  assert line == str(tmp_path / "multiscale.png")
  shown = cells(line, rows=2, columns=3)
  for row, images in zip(shown, generator(job.latents, [1, 0, 1]), strict=True):
    for cell, image in zip(row, to_uint8(images), strict=True):
      difference = cell.astype(int) - sheets.fit(image, 128)
      assert np.abs(difference).max() <= 1


def test_a_grid_is_written_by_batches_and_resumes(
  tmp_path, monkeypatch, capsys
):
  generator = make_generator(num_classes=2)
  seeds = range(70)
  fields = {"labels": [s % 2 for s in seeds], "scales": (4, 8), "batch_size": 8}
  job = Job(generator, tmp_path, seeds, **fields)
  whole, made = job.generate(""), []

  def generate(self, z, labels, **options):
    if made == [8, 8, 8]:
      raise KeyboardInterrupt
    made.append(len(z))
    return call(self, z, labels, **options)

  call = trained.Generator.__call__
  monkeypatch.setattr(trained.Generator, "__call__", generate)
  with pytest.raises(KeyboardInterrupt):
    grids.grid(job)
  assert len([*tmp_path.glob("8x8/*")]) == 24
  made.clear()
  (tmp_path / "4x4" / "seed0003.png").write_bytes(b"damaged")
  half = tmp_path / "8x8" / "seed0005.png"
  half.write_bytes(half.read_bytes()[:-9])
  made.append(0)  # it is not interrupted
  lines = grids.grid(job)
  assert made[1:] == [8] * 6  # 46 images and the two damaged ones
  for resolution in (4, 8):
    for seed in seeds:
      image = read(tmp_path / f"{resolution}x{resolution}/seed{seed:04d}.png")
      difference = whole[resolution][seed].astype(int) - image
      assert np.abs(difference).max() <= 1
  assert lines[1].endswith(
    "70 images; {}, the first 64".format(tmp_path / "grid_8x8.png")
  )
  assert read(tmp_path / "grid_8x8.png").shape == (64, 64, 3)
  assert (
    f"{tmp_path / '8x8'}: 23 images of these seeds, kept"
    in capsys.readouterr().err
  )

  # Images of another class, or of other weights, are not those of the job.
  labels = [1, 1, 0]
  params = jax.tree.map(lambda x: x + 1, generator.params)
  other = trained.Generator(generator.config, generator.network, params, {})
  for each, seeds in ((generator, (0, 1, 2)), (other, (1, 2, 80))):
    grids.grid(Job(each, tmp_path, seeds, labels, scales=(8,)))
  said = [
    line.removeprefix(f"{tmp_path / '8x8'}: ")
    for line in capsys.readouterr().err.splitlines()
    if line.startswith(str(tmp_path))
  ]
  assert said == [
    "2 images of these seeds, kept",
    "1 older image of these seeds, replaced",
    "67 other images kept",
    "2 older images of these seeds, replaced",
    "68 other images kept",
  ]


def test_truncation(tmp_path):
  generator = make_generator("stylegan")
  job = make_job(generator, tmp_path, scales=(4, 8))
  lines = grids.truncation(job, [1, 0])
  assert [line[-7:] for line in lines] == ["4x4.png", "8x8.png"]
  shown = cells(lines[1], rows=3, columns=2)
  full = job.generate()[8]
  assert (shown[0, 0] == sheets.fit(full[0], 128)).all()
  assert (shown[0, 1] == shown[2, 1]).all()  # the average of w
  assert (shown[0, 0] != shown[2, 0]).any()


@pytest.mark.slow
def test_style_mix(tmp_path):
  generator = make_generator("stylegan")
  job = make_job(generator, tmp_path, scales=(4, 8))
  lines = grids.style_mix(job, [8, 9], crossover=8)
  # At 4x4 there are only coarse styles; the first row has the fine sources.
  shown = cells(lines[0], rows=4, columns=3)
  for row in shown[1:]:
    assert np.abs(row[1:].astype(int) - row[:1]).max() <= 1
  shown = cells(lines[1], rows=4, columns=3)
  w = generator.map_latents(job.latents_of([7, 9]))
  w = jnp.repeat(w[:, None], 2, axis=1).reshape(1, 4, -1)
  image = sheets.fit(to_uint8(generator.synthesize(w)[1])[0], 128)
  assert np.abs(shown[3, 2].astype(int) - image).max() <= 1
  with pytest.raises(ValueError, match="--crossover=4: choose a resol.* 8"):
    grids.style_mix(job, [8], crossover=4)


@pytest.mark.slow
def test_noise_maps_are_mean_and_deviation(tmp_path):
  generator = make_generator("stylegan")
  job = make_job(generator, tmp_path, batch_size=3)
  w = job.styles[0]
  examples, means, deviations = grids._vary_noise(job, w, 8)
  keys = trained.example_keys(jax.random.key(0), 8)
  images = [
    np.clip(generator.synthesize(w[None], noise=keys[i : i + 1])[1][0], -1, 1)
    for i in range(8)
  ]
  assert np.abs(to_uint8(images[1]).astype(int) - examples[8][1]).max() <= 1
  mean = to_uint8(np.mean(images, axis=0)).astype(int)
  assert np.abs(mean - means[8]).max() <= 1
  deviation = np.std(images, axis=0).mean(axis=-1) * 127.5
  assert deviation.max() > 1
  np.testing.assert_allclose(deviations[8], deviation, atol=1e-2)
  (line,) = grids.noise(job, 4)
  assert cells(line, rows=3, columns=4).shape[1] == 4
  with pytest.raises(ValueError, match="--draws=1"):
    grids.noise(job, 1)


def test_a_tiff_of_one_channel_is_one_page(tmp_path):
  pytest.importorskip("tifffile")
  job = make_job(make_generator(channels=1), tmp_path)
  image = np.linspace(-1, 1, 12 * 16, dtype=np.float32).reshape(12, 16, 1)
  content = formats.encode(job, "tiff", image, "")
  shown = Image.open(io.BytesIO(content))
  assert shown.size == (16, 12) and shown.n_frames == 1


def test_nearest_finds_the_training_images(tmp_path, monkeypatch):
  monkeypatch.setattr(
    "msggan_jax.data.sources.demo._CAT_SPLITS", {"train": range(20)}
  )
  generator = make_generator.__wrapped__()  # its configuration changes
  generator.config.dataset.name = "cats"
  generator.config.dataset.data_dir = str(tmp_path / "data")
  generator.config.mirror = True
  job = make_job(generator, tmp_path)
  options = {"data_dir": str(tmp_path / "data"), "extractor": EXTRACTOR}
  prepared = nearest.data.open_prepared(
    nearest.data.prepare_of_run(generator.config, options["data_dir"])
  )
  # Generated "images": mirrored training images, of a sample, too.
  some = nearest.Reals.of(prepared).draw("", 10).numbers
  assert some.max() > 10
  copies = np.stack([prepared[int(i)]["image"][:, ::-1] for i in some[:3]])
  monkeypatch.setattr(Job, "batches", lambda *_: [[to_float(copies)] * 2])
  for most, count, bands in ((0, 20, None), (10, 10, None), (0, 20, (0,))):
    job = dataclasses.replace(job, bands=bands)
    line, sentence = nearest.nearest(job, 2, max_reals=most, **options)
    shown = cells(line, rows=3, columns=3)
    assert (shown[:, 0] == shown[:, 1][:, :, ::-1]).all()
    message = f"nearest of {count} training images: median 0, least 0"
    assert message in sentence
  with pytest.raises(ValueError, match="21 nearest images are asked for"):
    nearest.nearest(job, 21, **options)
  with pytest.raises(ValueError, match="keeps its data set in"):
    nearest.nearest(job, 2, data_dir="elsewhere", extractor=EXTRACTOR)
  released = Path("cats")  # no folder
  nearest.nearest(job, 2, workdir=released, **options)
  # In a middle stage of a run the set is the run's, of its full size.
  run = tmp_path / "run"
  run.mkdir()
  (run / "config.json").write_text(generator.config.to_json())
  (run / "stats.jsonl").touch()
  generator.config.resolution = 4
  sets = sorted((tmp_path / "data").iterdir())
  nearest.nearest(job, 2, workdir=run, **options)
  assert sorted((tmp_path / "data").iterdir()) == sets
  del generator.config["dataset"]
  with pytest.raises(ValueError, match="give the run's folder"):
    nearest.nearest(job, 2, **options)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(
  "model", ["progan", pytest.param("stylegan", marks=pytest.mark.slow)]
)
def test_project_recovers_the_networks_own_sample(model):
  generator = make_generator(model, num_classes=2)
  z = generator.sample_latents(jax.random.key(3), 1)
  target = generator(z, [1])
  latent, errors = projection.find_latent(
    generator, target, 1, iterations=150, batch_size=16
  )
  wanted = z if model == "progan" else generator.map_latents(z, [1])
  np.testing.assert_allclose(latent, wanted[0], atol=0.05)
  assert errors.shape == (150, 2)
  assert errors[-1].max() < 1e-3 * errors[0].max()


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_project_writes_every_scale(tmp_path):
  generator = make_generator(channels=1)
  image = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
  path = tmp_path / "given.png"
  Image.fromarray(image).save(path)
  sheet, line = projection.project(make_job(generator, tmp_path), path, 3)
  assert " dB at 8" in line
  assert read(tmp_path / "projection" / "4x4.png").shape == (4, 4)
  shown = cells(sheet, rows=2, columns=2)
  scales = make_pyramid(to_float(jnp.asarray(image)[None, ..., None]), (4, 8))
  for given, scale in zip(shown[0], scales, strict=True):
    assert (given == sheets.fit(to_uint8(scale)[0], 128)).all()
  assert np.load(tmp_path / "projection" / "latent.npz")["z"].shape == (6,)


def test_project_refuses_other_images(tmp_path):
  path = tmp_path / "given.png"
  with pytest.raises(ValueError, match="cannot be read"):
    projection.read_image(path, (8, 8), 3)
  path.write_bytes(b"no image")
  with pytest.raises(ValueError, match="cannot be read"):
    projection.read_image(path, (8, 8), 3)
  Image.new("L", (9, 7)).save(path)
  with pytest.raises(ValueError, match="cannot be read as 8x8: too small: 9x7"):
    projection.read_image(path, (8, 8), 3)


def test_project_reads_a_files_axes_or_a_samples(tmp_path):
  """Of training's files (W, H) and (C, H, W); samples are (H, W, C)."""
  image = np.random.default_rng(0).uniform(size=(8, 8, 3))
  ends = values.Range((0.0,) * 3, (1.0,) * 3, ("",) * 3, "float32")
  one = dataclasses.replace(ends, low=(0.0,), high=(1.0,), units=("",))
  read = []
  for layout, array, channels in (
    ("", image, 3),
    ("3HW", image.transpose(2, 0, 1), 3),
    ("CHW", image, 3),
    ("WHN", image[..., 0].T, 1),
    ("WH", image[..., :1], 1),
  ):
    np.save(path := tmp_path / "given.npy", array)
    value_range = ends if channels == 3 else one
    read.append(
      projection.read_image(path, (8, 8), channels, value_range, layout)
    )
  for x in read:
    np.testing.assert_array_equal(x, read[0][..., : x.shape[-1]])


def test_impossible_arguments_are_refused_with_what_is_possible():
  progan, stylegan = make_generator(), make_generator("stylegan")
  network = networks.make_discriminator(progan.config)
  arrays = jax.jit(network.init)(jax.random.key(1))
  discriminator = trained.Discriminator(progan.config, network, *arrays)
  zeros, z = jnp.zeros, jnp.ones((2, 6))
  labeled = make_generator(num_classes=3)
  for call, sentence in (
    (lambda: progan(zeros((2, 5))), "z has shape (2, 5); .* needs (B, 6)"),
    (lambda: progan(zeros((0, 6))), "z has shape (0, 6); .* B of 1 or more"),
    (lambda: progan(zeros((2, 6), int)), "z has type int32; give floats"),
    (lambda: progan(z, truncation_psi=0.5), "truncation_psi is 0.5, but"),
    (lambda: progan.map_latents(z), "this generator has no w"),
    (lambda: progan(z, [0, 1]), "these networks are unconditional"),
    (lambda: labeled(z), "need labels: give 2 of them, each from 0 to 2"),
    (lambda: labeled(z, [0]), "shape"),
    (lambda: labeled(z, [0, 3]), "labels range from 0 to 3"),
    (lambda: stylegan(z, noise="random"), "noise is 'random'; choose 'fixed'"),
    (
      lambda: stylegan(zeros((2, 6)), truncation_psi=np.nan),
      "truncation_psi is nan; choose a finite number",
    ),
    (
      lambda: stylegan.synthesize(zeros((2, 3, 6))),
      "w has shape (2, 3, 6); .* needs (B, 6) or (B, 4, 6)",
    ),
    (lambda: stylegan.truncate(zeros((2, 5)), 1), "w has shape (2, 5);"),
    (lambda: discriminator((zeros((4, 8, 8, 3)),)), "has 1 scales; give 2: 4"),
    (
      lambda: discriminator((zeros((4, 4, 4, 3)), zeros((4, 8, 8, 1)))),
      "scale 8 has shape (4, 8, 8, 1); .* needs (B, 8, 8, 3)",
    ),
  ):
    with pytest.raises(ValueError) as raised:
      call()
    assert all(part in str(raised.value) for part in sentence.split(".*"))
  with jax.enable_x64(True):
    assert progan.sample_latents(jax.random.key(1), 2).dtype == jnp.float32


def test_titles_name_the_classes(tmp_path):
  generator = copy.copy(make_generator())
  job = Job(generator, tmp_path, (5, 6), (1, 0))
  assert job.titles == ["seed 5\nclass 1", "seed 6\nclass 0"]
  generator.class_names = ("Katze", "Hund mit langem Haar")
  assert job.titles == ["seed 5\n1: Hund mit l…", "seed 6\n0: Katze"]
  assert job.titles_of((5, 6), None) == ["seed 5", "seed 6"]
