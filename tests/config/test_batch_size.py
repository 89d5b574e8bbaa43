"""batch_size "auto": the least that is possible, and a run keeps its own."""

import itertools

import pytest

from msggan_jax.checkpoints import workdirs
from msggan_jax.config import checks
from msggan_jax.config.batch_size import least_possible, with_batch_size
from tests.conftest import CONFIGS, load_config


def is_possible(config, size, num_devices):
  config = config.copy_and_resolve_references()
  config.batch_size = size
  try:
    checks.validate(config, num_devices)
  except ValueError:
    return False
  return True


@pytest.mark.parametrize(
  ("group", "micro"), [(4, 0), (0, 0), (4, 8), (3, 0), (2, 6), (1, 1)]
)
def test_no_smaller_batch_is_possible(group, micro):
  config = load_config("default")
  config.stddev_group, config.micro_batch_size = group, micro
  for wanted, num_devices in itertools.product((1, 8, 16, 20), (1, 3, 8)):
    size = least_possible(config, wanted, num_devices)
    sizes = range(wanted, size + 1)
    possible = [is_possible(config, x, num_devices) for x in sizes]
    assert possible == [False] * (len(sizes) - 1) + [True]


@pytest.mark.parametrize(
  ("name", "num_devices", "line"),
  [
    ("ffhq", 4, "batch_size: 16 for 4 devices, as the config has it"),
    ("ffhq", 16, "64 for 16 devices (the config's 16 does not divide)"),
    ("ffhq", 32, "128 for 32 devices (the config's 16 does not divide)"),
  ],
)
def test_auto_is_replaced_and_said(name, num_devices, line, capsys):
  config = load_config(name)
  from_file = config.batch_size
  config.batch_size = "auto"
  replaced = with_batch_size(config, from_file, num_devices)
  checks.validate(replaced, num_devices)
  assert line in capsys.readouterr().err
  assert config.batch_size == "auto"
  # A number is left alone.
  assert with_batch_size(replaced, from_file, 1) is replaced
  assert capsys.readouterr().err == ""


def test_a_resumed_run_keeps_its_batch(tmp_path, capsys):
  config = load_config("ffhq")
  config.batch_size = "auto"
  first = with_batch_size(config, 16, 16, tmp_path)
  workdirs.save_config(first, tmp_path)
  capsys.readouterr()
  again = with_batch_size(config, 16, 2, tmp_path)
  assert again.batch_size == first.batch_size == 64
  workdirs.check_config(again, tmp_path)
  assert (
    f"64 for 2 devices, as the run in {tmp_path}" in capsys.readouterr().err
  )
  # Its own configuration can be had with auto, too.
  theirs = load_config("workdir", tmp_path)
  theirs.batch_size = "auto"
  assert with_batch_size(theirs, 64, 4, tmp_path).batch_size == 64


def test_auto_needs_a_number_in_the_file():
  config = load_config("default")
  config.batch_size = "auto"
  with pytest.raises(
    ValueError, match="file, which has 'auto'; choose a whole"
  ):
    with_batch_size(config, "auto", 4)
  with pytest.raises(ValueError, match="'auto'; choose .* on the command line"):
    checks.validate(config, 4)


def test_configs_start_from_a_number():
  for path in CONFIGS.glob("*.py"):
    if path.stem != "workdir":
      assert isinstance(load_config(path.stem).batch_size, int)
