"""Classes of `sample`: chosen by name or number, else listed."""

import json

from PIL import Image

from msggan_jax.checkpoints import safetensors_file
from msggan_jax.data import pixels
from tests.commands import run_command
from tests.sharing.test_portable import make_generator, write_shared


def test_classes_are_chosen_by_name_or_number(tmp_path):
  generator = make_generator("progan", num_classes=3)
  card = {safetensors_file.CLASS_NAMES: json.dumps(["2", "Hund", "Kätzchen"])}
  source = write_shared(generator, tmp_path / "a.safetensors", card)
  flags = ("sample", f"--workdir={source}", f"--output={tmp_path / 'images'}")
  # "a" and two dots above it: as macOS writes names.
  run_command(*flags, "--seeds=5-8", "--labels=Ka\u0308tzchen,0-1,2")
  for seed, label in zip(range(5, 9), (2, 0, 1, 2), strict=True):
    with Image.open(tmp_path / f"images/16x16/seed000{seed}.png") as image:
      assert image.info[pixels.MARK].endswith(f"seed {seed} class {label}")
  said = run_command(*flags, "--labels=Maus", code=2)
  assert said.endswith(
    "--labels=Maus: there is no class 'Maus'; there are 0: 2, 1: Hund, "
    "2: Kätzchen\n"
  )
