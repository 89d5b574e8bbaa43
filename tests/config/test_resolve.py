"""Settling a configuration: what "auto" becomes; nothing else changes."""

import itertools

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from msggan_jax import data
from msggan_jax.config import checks, saved
from msggan_jax.config.few_images import choose
from msggan_jax.config.resolve import resolve
from tests.conftest import CONFIGS, load_config, write_noise


def with_auto(name="ffhq", **fields):
  config = load_config(name)
  config.update({"batch_size": "auto", **fields})
  return config


def test_it_returns_a_frozen_copy_and_changes_nothing_twice(capsys):
  config = with_auto(remat_from="auto", connected_scales=[4, 1024])
  before = config.to_dict()
  first = resolve(config, 8, file_batch_size=16, fits=lambda _: True)
  assert config.to_dict() == before
  assert isinstance(first, FrozenConfigDict)
  with pytest.raises(AttributeError, match="immutable"):
    first.dataset.name = "cats"
  settled = {"batch_size": 32, "remat_from": 0}
  assert saved.by_name(first.to_dict()) == (
    saved.by_name(before) | settled | {"connected_scales": (4, 1024)}
  )
  assert "batch_size: 32 for 8 devices" in capsys.readouterr().err
  assert resolve(first, 8) == first
  assert capsys.readouterr().err == ""


def test_no_smaller_batch_is_possible():
  config = with_auto("default")
  for group, micro in ((4, 0), (0, 0), (4, 8), (3, 0), (2, 6), (1, 1)):
    config.stddev_group, config.micro_batch_size = group, micro
    for wanted, num_devices in itertools.product((1, 8, 20), (1, 3, 8)):
      config.batch_size = "auto"
      size = resolve(config, num_devices, file_batch_size=wanted).batch_size
      for smaller in range(wanted, size):
        config.batch_size = smaller
        with pytest.raises(ValueError, match="batch_size"):
          checks.validate(config, num_devices)


def test_the_batch_is_settled_and_said(capsys):
  why = "(the config's 16 does not divide)"
  for num_devices, line in (
    (4, "batch_size: 16 for 4 devices, as the config has it"),
    (16, f"64 for 16 devices {why}"),
    (32, f"128 for 32 devices {why}"),
  ):
    resolve(with_auto(), num_devices, file_batch_size=16)
    assert line in capsys.readouterr().err


def test_a_resumed_run_keeps_its_batch(tmp_path, capsys):
  config = with_auto()
  first = resolve(config, 16, file_batch_size=16, workdir=tmp_path)
  saved.save_config(first, tmp_path)
  capsys.readouterr()
  again = resolve(config, 2, file_batch_size=16, workdir=tmp_path)
  assert again.batch_size == first.batch_size == 64
  assert (
    f"64 for 2 devices, as the run in {tmp_path}" in capsys.readouterr().err
  )
  # Its own configuration can be had with auto, too.
  theirs = load_config("workdir", tmp_path)
  theirs.batch_size = "auto"
  again = resolve(theirs, 4, file_batch_size=64, workdir=tmp_path)
  assert again.batch_size == 64
  theirs.seed += 1
  with pytest.raises(ValueError, match=r"another configuration: seed \(there"):
    resolve(theirs, 4, file_batch_size=64, workdir=tmp_path)


def test_fields_that_would_be_dropped_are_refused(tmp_path):
  """Those of an older or newer version, unless training is as without."""
  config = load_config("default")
  removed = {"agreement_weight": 0.0, "agreement_target": "next"}
  saved.save_config(ConfigDict(config.to_dict() | removed), tmp_path)
  assert resolve(config, 1, workdir=tmp_path) == resolve(config, 1)
  load_config("workdir", tmp_path)
  later = removed | {"agreement_weight": 1.0, "later": [1]}
  theirs = ConfigDict(config.to_dict() | later)
  saved.save_config(theirs, tmp_path)
  assert saved.load_config(tmp_path).resolution  # it can still be sampled
  sentence = r"lacks: agreement_weight 1.0, later \[1\]; use the version"
  for train_on in (
    lambda: resolve(config, 1, workdir=tmp_path),
    lambda: load_config("workdir", tmp_path),
  ):
    with pytest.raises(ValueError, match=sentence):
      train_on()
  # A configuration file may have fields of its own.
  assert resolve(theirs, 1, workdir=tmp_path).later == (1,)


def test_what_lacks_fields_or_is_a_file_is_refused_at_once(tmp_path):
  config = ConfigDict({"batch_size": "auto", "resolution": "8"})
  with pytest.raises(ValueError, match="the configuration lacks .*num_classes"):
    resolve(config, 1)
  config = load_config("demo")
  with config.ignore_type():
    config.stddev_group = "auto"
  with pytest.raises(ValueError, match="config.stddev_group is 'auto'; choose"):
    resolve(config, 1)
  (tmp_path / "run").touch()
  with pytest.raises(ValueError, match="run is a file; choose another --workd"):
    resolve(load_config("demo"), 1, workdir=tmp_path / "run")


def test_an_auto_batch_needs_a_number_in_the_file():
  for in_file in (None, "auto"):
    with pytest.raises(ValueError, match="choose .* on the command line"):
      resolve(with_auto(), 4, file_batch_size=in_file)
  for path in CONFIGS.glob("[!_]*.py"):
    if path.stem != "workdir":
      assert isinstance(load_config(path.stem).batch_size, int)


def test_the_fewest_blocks_that_fit_are_recomputed(tmp_path):
  config = load_config("default")
  config.resolution, config.remat_from = 16, "auto"
  needed = {0: 90, 16: 70, 8: 50, 4: 30}
  for limit, remat_from in ((100, 0), (80, 16), (60, 8), (40, 4)):
    found = resolve(
      config, 8, fits=lambda c, limit=limit: needed[c.remat_from] <= limit
    )
    assert found.remat_from == remat_from
  with pytest.raises(ValueError, match="batch of 4 .* config.micro_batch_size"):
    resolve(config, 8, fits=lambda _: False)
  with pytest.raises(ValueError, match="needs a compiler"):
    resolve(config, 8)
  # A run resumes with other memory.
  saved.save_config(found, tmp_path)
  again = resolve(config, 1, workdir=tmp_path, fits=lambda _: True)
  assert again.remat_from == 0


def few(path, preset="msg_progan"):
  config = load_config("image_folder", f"few_images,{preset}")
  config.dataset.path = str(path)
  config.resolution, config.batch_size = 64, 8
  return config


def chosen(config, num, given=(), **fields):
  config.update(fields)
  made = choose(config, num, {*given, *fields}, unit=4)
  return {name: value for name, (value, _) in made.items()}


LOGISTIC = {
  **{"loss": "logistic", "penalty": "r1", "penalty_derivatives": "partial"}
}


def test_the_number_of_images_chooses():
  for num, augment, limit, total in (
    (100, "diffaugment", 1.0, 200.0),
    (1_000, "ada", 0.8, 1000.0),
    (99_999, "ada", 0.8, 2000.0),
    (100_000, "none", None, 2000.0),
  ):
    adaptive = LOGISTIC | {
      **{"augment_strength": limit, "augment_target": 0.6},
      "augment_kimg": min(500.0, total / 4),
    }
    assert chosen(few("a"), num) == {
      **{"augment": augment, "total_kimg": total},
      **({} if limit is None else adaptive),
      "ema_kimg": min(10, total / 50),
    }  # and no r1_gamma: it is the preset's


def test_the_preset_s_loss_and_length_of_average_count():
  # A loss with a zero, R1 or R2, and held-out images stay.
  assert not LOGISTIC.keys() & chosen(few("a", "msg_stylegan"), 100).keys()
  made = chosen(few("a", "msg_r3"), 100)
  assert made["loss"] == "logistic" and "penalty" not in made
  assert (made["ema_kimg"], made["ema_kimg_end"]) == (0.0, 4.0)
  made = chosen(few("a", "msg_r3"), 100, augment_holdout="held_out")
  assert "loss" not in made and made["augment_target"] == 0.5
  made = chosen(few("a", "bmsg_gan"), 100)
  assert not made.keys() & {"ema_decay", "ema_kimg"}


def test_a_network_still_grows_with_few_images(monkeypatch):
  """Its stages and fades get shorter with the run."""
  monkeypatch.setattr(data, "count_images", lambda *_: 100)
  made = resolve(few("photos", "progan"), 1, for_few_images=True)
  assert (made.total_kimg, made.grow_stable_kimg) == (200.0, 10.0)
  config = few("photos", "progan")
  whole, config.total_kimg = config.total_kimg, 200.0
  given = {"given": {"total_kimg"}, "file_total_kimg": whole}
  again = resolve(config, 1, for_few_images=True, **given)
  assert again.grow_stable_kimg == 10.0
  given = chosen(few("a", "progan"), 100, grow_fade_kimg=5.0)
  assert "grow_fade_kimg" not in given and "grow_stable_kimg" in given


def test_given_fields_are_in_force():
  made = chosen(few("a"), 100, augment_target=0.0)
  assert not made.keys() & {"augment_strength", "augment_target", "loss"}
  made = chosen(few("a"), 5000, augment_target=0.0)  # ada, which has a limit
  assert made["augment_strength"] == 0.8 and "loss" not in made
  assert "loss" not in chosen(few("a"), 100, loss="wasserstein")
  made = chosen(few("a"), 100, penalty="gradient_penalty")
  assert "penalty_derivatives" not in made
  made = chosen(few("a"), 100, total_kimg=1000.0)
  assert (made["total_kimg"], made["ema_kimg"]) == (1000.0, 10.0)
  made = chosen(few("a"), 100, augment="exact")
  assert "augment" not in made and made["augment_strength"] == 0.8


@pytest.mark.parametrize(
  ("num", "devices", "size"),
  [(20, 1, 20), (5, 1, 4), (1, 1, 4), (4, 8, 32), (100, 1, 32)],
)
def test_the_batch_is_no_larger_than_the_set(num, devices, size, monkeypatch):
  monkeypatch.setattr(data, "count_images", lambda *_: num)
  config = few("photos")
  config.batch_size = 32
  made = resolve(config, devices, for_few_images=True)
  assert made.batch_size == size
  given = resolve(config, devices, for_few_images=True, given={"batch_size"})
  assert given.batch_size == 32


def test_values_are_printed_and_kept_by_a_resumed_run(tmp_path, capsys):
  photos, run = (
    write_noise(tmp_path / "photos", [(8, 8)] * 20),
    tmp_path / "run",
  )
  config = few(photos)
  config.total_kimg = 7.0
  first = resolve(config, 1, given={"total_kimg"}, workdir=run)
  assert (first.augment, first.total_kimg) == ("diffaugment", 7.0)
  lines = capsys.readouterr().err.splitlines()
  assert "few images: total_kimg 7.0: given" in lines
  assert any("augment diffaugment: 20 images (Zhao" in line for line in lines)
  assert config.augment == "auto"
  saved.save_config(first, run)
  photos.rename(tmp_path / "elsewhere")
  assert resolve(few(photos), 1, workdir=run) == first
  assert f"augment diffaugment: as the run in {run}" in capsys.readouterr().err


def test_classes_are_those_of_a_folder_s_labels_or_of_a_prepared_set(tmp_path):
  photos = tmp_path / "photos"
  photos.mkdir()
  for name in ("cat", "dog", "owl"):
    write_noise(photos / name, [(8, 8)] * 4)
  config = load_config("image_folder")
  config.resolution, config.dataset.path = 8, str(photos)
  assert resolve(config, 1).num_classes == 0
  config.dataset.labels = "folders"
  assert resolve(config, 1).num_classes == 3
  made = data.prepare(config, output=tmp_path / "set")
  config.dataset.update(path=str(made), labels="none")
  assert resolve(config, 1).num_classes == 3
  assert resolve(config, 1, given={"num_classes"}).num_classes == 0
  saved.save_config(resolve(config, 1, given={"num_classes"}), tmp_path)
  assert resolve(config, 1, workdir=tmp_path).num_classes == 0
